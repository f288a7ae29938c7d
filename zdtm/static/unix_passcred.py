"""Messages wait in unix sockets that ask who has sent them (SO_PASSCRED): from this task, and from one that is gone.

states: unix-sockets/queues-in-both-directions
flavours: h
needs: root
"""

import os
import socket
import struct

from zdtm.lib.program import child, equal, ready, reap, run

UID, GID = 4321, 8765
CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""
TYPES = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)


def receive(sock: socket.socket, size: int) -> tuple[bytes, tuple[int, ...]]:
    data, control, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(CREDENTIALS.size), socket.MSG_DONTWAIT)
    return data, CREDENTIALS.unpack(control[0][2])


def main() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in TYPES]
    for _, receiver in pairs:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def stranger() -> None:
        os.setresgid(GID, GID, GID)
        os.setresuid(UID, UID, UID)
        for sender, _ in pairs:
            sender.send(b"stranger")

    for sender, _ in pairs:
        sender.send(b"parent")
    pid = child(stranger)
    equal(reap(pid), 0, "status of the child")
    ready()
    for kind, (sender, receiver) in zip(TYPES, pairs, strict=True):
        equal(receive(receiver, 64), (b"parent", (os.getpid(), 0, 0)), f"first message, {kind.name}")
        equal(receive(receiver, 64), (b"stranger", (pid, UID, GID)), f"second message, {kind.name}")
        sender.send(b"again")
        equal(receive(receiver, 64), (b"again", (os.getpid(), 0, 0)), f"new message, {kind.name}")


if __name__ == "__main__":
    run(main)
