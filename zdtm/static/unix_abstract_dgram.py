"""A unix datagram server with an abstract name, two clients, and one datagram waiting that must not arrive twice.

states: unix-sockets/abstract-dgram-with-data
flavours: h
"""

import os
import socket

from zdtm.lib.program import check, equal, ready, run

# Abstract names may hold any byte, also zeros, and may end in one.
NAME = f"\0zdtm {os.getpid()} \0 server\0".encode()


def main() -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(NAME)
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for client in clients:
        client.connect(NAME)
    clients[0].send(b"from the first")
    ready()
    equal(server.getsockname(), NAME, "name of the server")
    equal([client.getpeername() for client in clients], [NAME, NAME], "name of the clients' peer")
    clients[1].send(b"from the second")
    received = [server.recv(64, socket.MSG_DONTWAIT) for _ in range(2)]
    equal(received, [b"from the first", b"from the second"], "datagrams")
    try:
        check(False, f"one more datagram: {server.recv(64, socket.MSG_DONTWAIT)!r}")
    except BlockingIOError:
        pass
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(NAME)
        check(False, "the abstract name is free although its owner lives")
    except OSError:
        pass


if __name__ == "__main__":
    run(main)
