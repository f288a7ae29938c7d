"""Who is at the other end of a unix socket."""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import NamedTuple

_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("=iII")


class Peer(NamedTuple):
    """The process that connected, that listened when we connected, or that made the pair of sockets.

    pid    in our pid namespace, 0 when it isn't there
    """

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        """SO_PEERCRED, unix(7)."""
        return cls(*_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))

    def has_died(self, sock: socket.socket) -> bool:
        """Whether that process is dead. Before Linux 6.5 there is no SO_PEERPIDFD: there it has died when nobody has
        its pid."""
        try:
            pidfd = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError:
            return not os.path.exists(f"/proc/{self.pid}")  # also for one that has been reaped
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        try:
            return bool(poll.poll(0))
        finally:
            os.close(pidfd)
