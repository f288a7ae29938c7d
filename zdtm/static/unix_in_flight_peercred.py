"""Unix connections that nobody has accepted yet: who made them, and who sends what is in them, if that is asked for.
One was made by a process with another uid and gid and is held by another one, one by a process that is gone.

states: unix-sockets/so-peercred, unix-sockets/in-flight-connection-with-data-or-dead-client
flavours: h
kernel: how connections are kept in the kernel's memory, and when options are inherited
needs: root, file /sys/kernel/btf/vmlinux
"""

import os
import socket
import struct

from zdtm.lib.program import child, equal, finish, ready, reap, run, wait_term

UID, GID = 4321, 8765
CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


def peer(sock: socket.socket) -> tuple[int, ...]:
    return CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))


def sender(sock: socket.socket) -> tuple[int, ...]:
    """Who has sent what comes next, a greeting."""
    words, control, _, _ = sock.recvmsg(64, 64)
    equal(words, b"hello", "what the client has sent")
    return CREDENTIALS.unpack(next(data for _, kind, data in control if kind == socket.SCM_CREDENTIALS))


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    os.chmod("listener", 0o777)
    listener.listen(3)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    courier, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def connect() -> None:
        os.setresgid(GID, GID, GID)
        os.setresuid(UID, UID, UID)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect("listener")
        client.send(b"hello")
        socket.send_fds(courier, [b"client"], [client.fileno()])

    def stranger() -> None:
        connect()
        wait_term()

    stays = child(stranger, block_term=True)
    _, (held,), _, _ = socket.recv_fds(receiver, 64, 1)
    gone = child(connect)
    _, (left,), _, _ = socket.recv_fds(receiver, 64, 1)
    equal(reap(gone), 0, "status of the child that is gone")
    ready()
    for fd, pid in ((held, stays), (left, gone)):
        accepted, _ = listener.accept()
        if pid == stays:
            equal(peer(accepted), (pid, UID, GID), "credentials of the client")
            equal(sender(accepted), (pid, UID, GID), "sender of the data")
        else:
            # The pid of a process that is gone is shown as long as it is nobody else's.
            equal(peer(accepted)[1:], (UID, GID), "uid and gid of the client that is gone")
            equal(sender(accepted)[1:], (UID, GID), "uid and gid of the sender that is gone")
        client = socket.socket(fileno=fd)
        equal(peer(client), (os.getpid(), 0, 0), "credentials of the listener, seen by the client")
        accepted.send(b"x")
        equal(client.recv(1), b"x", "answer")
    finish(stays)


if __name__ == "__main__":
    run(main)
