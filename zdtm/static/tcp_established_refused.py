"""An established TCP connection, which is refused by name.

flavours: h
expect: refuse (?i)TCP
"""

import socket

from zdtm.lib.program import equal, ready, run


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    client.send(b"sent before")
    ready()
    equal(accepted.recv(64), b"sent before", "data sent before")
    accepted.send(b"sent after")
    equal(client.recv(64), b"sent after", "data sent after")


if __name__ == "__main__":
    run(main)
