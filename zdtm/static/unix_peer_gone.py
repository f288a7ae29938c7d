"""What a unix socket remembers of a peer that is gone: its name, the process and user that it was, and that it was
closed before it had read everything.

states: unix-sockets/half-closed-pair-with-data, unix-sockets/so-peercred
flavours: h
needs: root
"""

import os
import select
import socket
import struct

from zdtm.lib.program import child, equal, ready, reap, run

UID, GID = 4321, 8765
CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


def peer(sock: socket.socket) -> tuple[int, ...]:
    return CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))


def visitor() -> None:
    """Connects and leaves, with the answer unread."""
    os.setresgid(GID, GID, GID)
    os.setresuid(UID, UID, UID)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.bind(f"\0zdtm visitor {os.getpid()}")
    client.connect("listener")
    client.send(b"hello")
    client.recv(1)


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    os.chmod("listener", 0o777)
    listener.listen(1)
    pid = child(visitor)
    accepted, name = listener.accept()
    accepted.send(b"an answer of which one byte is read")
    equal(reap(pid), 0, "status of the visitor")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind("server")
    server.listen(1)
    client.connect("server")
    there, _ = server.accept()
    there.send(b"last words")
    there.close()
    server.close()
    os.unlink("server")
    ready()
    equal(peer(accepted), (pid, UID, GID), "credentials of the visitor")
    equal(accepted.getpeername(), name, "name of the visitor")
    poller = select.poll()
    poller.register(accepted, select.POLLIN)
    equal(poller.poll(0)[0][1] & select.POLLERR, select.POLLERR, "pending error on the visitor's connection")
    equal(accepted.recv(64), b"hello", "what the visitor has sent")
    try:
        accepted.recv(64)
    except ConnectionResetError:
        equal(accepted.recv(64), b"", "end of the visitor's connection")
    else:
        raise AssertionError("the visitor's connection was not reset")
    equal(client.getpeername(), "server", "name of the server")
    equal(peer(client)[0], os.getpid(), "process that listened")
    equal(client.recv(64), b"last words", "what the server has sent")
    equal(client.recv(64), b"", "end of the server's connection")


if __name__ == "__main__":
    run(main)
