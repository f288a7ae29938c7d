"""Unix stream sockets before their time: one bound to an abstract name and one to a path, neither listening yet, and
one that has no name.

states: unix-sockets/unconnected-bound
flavours: h
"""

import os
import socket

from zdtm.lib.program import check, equal, ready, run

ABSTRACT = f"\0zdtm {os.getpid()} early".encode()


def is_refused(name: str | bytes) -> bool:
    """Nobody listens there."""
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(name)
    except ConnectionRefusedError:
        return True
    return False


def main() -> None:
    abstract, path, nameless = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3))
    abstract.bind(ABSTRACT)
    path.bind("early")
    ready()
    names: dict[str | bytes, socket.socket] = {ABSTRACT: abstract, "early": path}
    for name, sock in names.items():
        equal(sock.getsockname(), name, "name of the bound socket")
        equal(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 0, "it listens already")
        check(is_refused(name), f"{name!r} takes connections although nobody listens")
        sock.listen(1)
    equal(nameless.getsockname(), "", "name of the nameless socket")
    nameless.connect(ABSTRACT)
    accepted, _ = abstract.accept()
    nameless.send(b"at last")
    equal(accepted.recv(64), b"at last", "data on the late connection")
    late = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    late.connect("early")
    path.accept()[0].send(b"welcome")
    equal(late.recv(64), b"welcome", "data on the connection by path")


if __name__ == "__main__":
    run(main)
