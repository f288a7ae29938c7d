"""The socket lazy-pages.socket, over which a restore hands its tasks to the daemon. The protocol is that of CRIU.

A connection is one restore. All that is said comes from it:

    int32 PID, one byte with a userfaultfd (SCM_RIGHTS)     a task whose pages are to be brought
    int32 -PID                                              a dead task, which needs none
    uint32 0x52535446                                       the restore has succeeded

There is one announcement for each entry of the process tree. A connection that ends without the last word is a restore
that has failed.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from engine import log
from engine.errors import CrError
from engine.kernel import userfaultfd
from engine.kernel.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "lazy-pages.socket"
_FINISHED = 0x52535446
_NUMBER = struct.Struct("<i")
_SEND_SECONDS = 30
_MOST_CANDIDATES = 16


class Connection:
    """The restore's end."""

    def __init__(self) -> None:
        """Connect to the daemon of the work dir, which is the current one. Raises CrError."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(_SEND_SECONDS)
        try:
            self._sock.connect(NAME)
        except OSError as error:
            self._sock.close()
            where = os.path.join(os.getcwd(), NAME)
            raise CrError(
                f"no lazy-pages daemon listens at {where}: {error.strerror} (start `crucible lazy-pages` with the same"
                " work directory first)"
            ) from error
        self._peer = Peer.of(self._sock)

    def announce(self, pid: int, fd: int) -> None:
        """A living task and its userfaultfd. Raises OSError."""
        self._sock.sendall(_NUMBER.pack(pid))
        socket.send_fds(self._sock, [b"!"], [fd])

    def announce_dead(self, pid: int) -> None:
        self._sock.sendall(_NUMBER.pack(-pid))

    def is_alive(self) -> bool:
        """Whether the daemon lives and has its end, of which its guard has a copy. It never says anything."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0) and not (self._peer.pid and self._peer.has_died(self._sock))

    def finish(self) -> None:
        """The restore has succeeded. Raises OSError."""
        self._sock.sendall(_NUMBER.pack(_FINISHED))

    def close(self) -> None:
        self._sock.close()


class Announcement(NamedTuple):
    """fd: -1 for a dead task."""

    pid: int
    fd: int


class Restore:
    """The daemon's end.

    unannounced  the pids of which nothing has been said
    finished     whether the restore has succeeded
    """

    def __init__(self, sock: socket.socket, pids: set[int]) -> None:
        """pids: those of the process tree."""
        self.sock = sock
        sock.setblocking(False)
        self.unannounced = set(pids)
        self.finished = False
        self._number = b""

    def read(self) -> Iterator[Announcement]:
        """What has been said by now. Raises CrError when that is not what a restore says, or when it has ended."""
        try:
            while not self.finished:
                if len(self._number) < _NUMBER.size:
                    self._number += self._some(self.sock.recv(_NUMBER.size - len(self._number)))
                else:
                    yield from self._announcement(*_NUMBER.unpack(self._number))
                    self._number = b""
        except BlockingIOError:
            return
        except OSError as error:
            raise CrError(f"the restore can't be heard: {error.strerror}") from error

    @staticmethod
    def _some(data: bytes) -> bytes:
        if not data:
            raise CrError("the restore has ended without success")
        return data

    def _announcement(self, number: int) -> Iterator[Announcement]:
        if number == _FINISHED and not self.unannounced:
            self.finished = True
            return
        if abs(number) not in self.unannounced:
            raise CrError(f"the restore says {number}, which is no task of the images that is still to come")
        fd = self._descriptor() if number > 0 else -1
        self.unannounced.discard(abs(number))
        yield Announcement(abs(number), fd)

    def _descriptor(self) -> int:
        data, fds, _, _ = socket.recv_fds(self.sock, 1, 2)
        if len(fds) == 1 and userfaultfd.is_one(fds[0]):
            os.set_blocking(fds[0], False)
            return fds[0]
        for fd in fds:
            os.close(fd)
        self._some(data)
        raise CrError("the restore has sent something else than a userfaultfd")


class Candidates:
    """Connections that have not announced any task yet: one of them may be a restore."""

    def __init__(self, listener: socket.socket, pids: set[int], poll: select.poll) -> None:
        """pids: those of the process tree; poll: gets the listener, and each connection"""
        self._listener = listener
        self._pids = pids
        self._poll = poll
        self._restores: dict[int, Restore] = {}
        poll.register(listener, select.POLLIN)

    def at(self, fd: int) -> Restore | None:
        return self._restores.get(fd)

    def admit(self) -> None:
        """The one that has just connected, in the place of the oldest if there are many."""
        if len(self._restores) >= _MOST_CANDIDATES:
            self.drop(next(iter(self._restores.values())), "too many others have come since")
        sock, _ = self._listener.accept()
        self._restores[sock.fileno()] = Restore(sock, self._pids)
        self._poll.register(sock, select.POLLIN)

    def drop(self, restore: Restore, why: str) -> None:
        log.warn(f"a connection comes to nothing: {why}")
        self._poll.unregister(restore.sock)
        del self._restores[restore.sock.fileno()]
        restore.sock.close()

    def close(self, but: Restore) -> None:
        """One has turned out to be the restore."""
        self._poll.unregister(self._listener)
        for other in [each for each in self._restores.values() if each is not but]:
            self.drop(other, "a restore has come by another one")
