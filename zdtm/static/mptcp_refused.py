"""A multipath TCP connection over the loopback device.

flavours: h
expect: refuse (?i)mptcp|multipath
"""

import socket

from zdtm.lib.program import equal, ready, run

IPPROTO_MPTCP = 262


def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    client.connect(listener.getsockname())
    accepted, _ = listener.accept()
    client.send(b"many ways")
    ready()
    equal(accepted.recv(64), b"many ways", "data sent before")
    accepted.send(b"lead to Rome")
    equal(client.recv(64), b"lead to Rome", "data sent after")


if __name__ == "__main__":
    run(main)
