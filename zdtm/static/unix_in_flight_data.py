"""A unix connection that nobody has accepted yet carries data already.

states: unix-sockets/in-flight-connection-with-data-or-dead-client
flavours: h
expect: refuse (?i)in.?flight|not (yet )?accepted
"""

import socket

from zdtm.lib.program import equal, ready, run


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    listener.listen(1)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect("listener")
    client.send(b"sent too early")
    ready()
    accepted, _ = listener.accept()
    equal(accepted.recv(64), b"sent too early", "data that was sent before the connection was accepted")
    accepted.send(b"never too late")
    equal(client.recv(64), b"never too late", "answer")


if __name__ == "__main__":
    run(main)
