"""A listening unix stream socket with a mode and owner of its own, one accepted and one waiting connection, and a
queue of five.

states: unix-sockets/listening-accepted-pending-stream
flavours: h
needs: root
"""

import os
import socket
import stat

from zdtm.lib.program import check, equal, ready, run

NAME = "listener"
QUEUE = 5


def new_client() -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    client.connect(NAME)
    return client


def check_connection(one: socket.socket, other: socket.socket, which: str) -> None:
    one.send(b"there")
    equal(other.recv(64), b"there", f"data to the server on the {which} connection")
    other.send(b"back")
    equal(one.recv(64), b"back", f"data to the client on the {which} connection")


def connections_until_full() -> int:
    clients: list[socket.socket] = []
    try:
        while len(clients) < 10 * QUEUE:
            clients.append(new_client())
    except BlockingIOError:
        pass
    return len(clients)


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(NAME)
    os.chown(NAME, 5, 7)
    os.chmod(NAME, 0o604)
    listener.listen(QUEUE)
    first = new_client()
    accepted, _ = listener.accept()
    waiting = new_client()
    ready()
    info = os.stat(NAME)
    check(stat.S_ISSOCK(info.st_mode), "the name is not a socket")
    equal((stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid), (0o604, 5, 7), "mode, uid, gid of the socket file")
    equal(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 1, "the listener listens")
    equal(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 0, "the accepted end listens")
    for end in (listener, accepted):
        equal(end.getsockname(), NAME, "name at the server's side")
    for end in (first, waiting):
        equal((end.getsockname(), end.getpeername()), ("", NAME), "names at the client's side")
    first.setblocking(True)
    waiting.setblocking(True)
    check_connection(first, accepted, "accepted")
    check_connection(waiting, listener.accept()[0], "waiting")
    # The kernel lets one more wait than listen() was told.
    equal(connections_until_full(), QUEUE + 1, "connections that may wait")


if __name__ == "__main__":
    run(main)
