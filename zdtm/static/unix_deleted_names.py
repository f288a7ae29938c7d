"""Unix sockets bound to names that are gone, along with their directory, and three generations bound to one name, of
which only the last still has it.

states: unix-sockets/deleted-names
flavours: h
needs: root
"""

import os
import socket

from zdtm.lib.program import check, equal, ready, run

SERVER_FD = 100
"""Descriptors are moved up to here, so that the sockets are not met in the order in which they were made."""


def connected(kind: socket.SocketKind, name: str) -> socket.socket:
    new = socket.socket(socket.AF_UNIX, kind)
    new.connect(name)
    return new


def moved(sock: socket.socket, fd: int) -> socket.socket:
    os.dup2(sock.fileno(), fd)
    sock.close()
    return socket.socket(fileno=fd)


def deleted_listener(name: str, fd: int) -> tuple[socket.socket, socket.socket, socket.socket]:
    """A listener whose name is unlinked, and both ends of a connection made before that."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(name)
    listener.listen()
    client = connected(socket.SOCK_STREAM, name)
    accepted, _ = listener.accept()
    os.unlink(name)
    return moved(listener, fd), client, accepted


def generation(number: int) -> tuple[socket.socket, socket.socket]:
    """A datagram server bound to "name", which it takes from its predecessor, and a client connected to it."""
    if number:
        os.unlink("name")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("name")
    client = connected(socket.SOCK_DGRAM, "name")
    return moved(server, SERVER_FD + 10 - number), client


def main() -> None:
    os.makedirs("gone/deep")
    listener, client, accepted = deleted_listener("gone/deep/stream", SERVER_FD)
    dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dgram.bind("gone/deep/dgram")
    dgram_client = connected(socket.SOCK_DGRAM, "gone/deep/dgram")
    os.unlink("gone/deep/dgram")
    os.removedirs("gone/deep")
    generations = [generation(number) for number in range(3)]
    ready()
    equal(os.listdir("."), ["name"], "names in the directory")
    equal([end.getsockname() for end in (listener, accepted)], ["gone/deep/stream"] * 2, "the deleted stream name")
    equal(client.getpeername(), "gone/deep/stream", "the name that the client connected to")
    client.send(b"still here")
    equal(accepted.recv(64), b"still here", "data on the connection to a deleted name")
    equal(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 1, "the nameless listener listens")
    dgram_client.send(b"here, too")
    equal(dgram.recv(64), b"here, too", "datagram to a deleted name")
    equal(dgram_client.getpeername(), "gone/deep/dgram", "the deleted datagram name")
    for number, (server, its_client) in enumerate(generations):
        its_client.send(b"generation %d" % number)
        equal(server.recv(64), b"generation %d" % number, "datagram from the server's own client")
        equal(server.getsockname(), "name", "name of the server")
    connected(socket.SOCK_DGRAM, "name").send(b"by name")
    check(generations[-1][0].recv(64) == b"by name", "the name leads to another generation")


if __name__ == "__main__":
    run(main)
