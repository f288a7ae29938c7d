"""Peer credentials of unix sockets that a task with another uid and gid has made: a pair, and a connection.

states: unix-sockets/so-peercred
flavours: h
kernel: SO_PEERCRED
needs: root
"""

import os
import socket
import struct

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

UID, GID = 4321, 8765
CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


def peer(sock: socket.socket) -> tuple[int, ...]:
    return CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))


def main() -> None:
    gate = Gate()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    os.chmod("listener", 0o777)
    listener.listen(1)
    courier, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def stranger() -> None:
        os.setresgid(GID, GID, GID)
        os.setresuid(UID, UID, UID)
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        socket.send_fds(courier, [b"pair"], [end.fileno() for end in pair])
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect("listener")
        gate.wait()
        equal(peer(client), (os.getppid(), 0, 0), "credentials of the listener, seen by the client")

    pid = child(stranger)
    _, fds, _, _ = socket.recv_fds(receiver, 64, 2)
    pair = [socket.socket(fileno=fd) for fd in fds]
    accepted, _ = listener.accept()
    gate.expect(1)
    ready()
    for sock, what in ((pair[0], "left end"), (pair[1], "right end"), (accepted, "accepted end")):
        equal(peer(sock), (pid, UID, GID), f"credentials of the peer of the {what}")
    equal(peer(receiver), (os.getpid(), 0, 0), "credentials of the peer of a socket of our own")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
