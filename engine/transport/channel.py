"""A connection to a peer that may be slow, vanish or lie. Nothing waits for it for ever."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

from engine.errors import CrError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

PATIENCE_SECONDS = 30.0
"""How long a peer that takes or gives nothing is waited for, by a dump, with all tasks frozen."""
_PROBES = 3


def notice_death(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end a connection whose other end has not answered for so long, also when nothing is being sent:
    tcp(7)."""
    import socket

    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    interval = max(1, round(seconds / (_PROBES + 1)))
    for option, value in (
        (socket.TCP_KEEPIDLE, interval),
        (socket.TCP_KEEPINTVL, interval),
        (socket.TCP_KEEPCNT, _PROBES),
        (socket.TCP_USER_TIMEOUT, round(seconds * 1000)),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Channel:
    """A connected stream socket. Every failure is a CrError that names the peer.

    peer      what it is called in messages: "the page server at 10.0.0.2 port 9000"
    patience  seconds without a byte after which the peer is given up
    """

    def __init__(self, sock: socket.socket, peer: str, patience: float = PATIENCE_SECONDS) -> None:
        sock.setblocking(False)
        self.peer = peer
        self.patience = patience
        self._socket = sock

    def close(self) -> None:
        self._socket.close()

    @property
    def for_tasks(self) -> int:
        """The socket, which does not block, for a task to sendmsg(2) its pages into with MSG_NOSIGNAL. -1: what is
        sent has to be encrypted, which a task can't."""
        return self._socket.fileno()

    def fileno(self) -> int:
        """For poll(2)."""
        return self._socket.fileno()

    @property
    def has_more(self) -> bool:
        """Whether there is something to be received of which poll(2) says nothing: it is decrypted already."""
        return False

    def send(self, content: bytes | memoryview) -> None:
        """All of it."""
        with memoryview(content) as view:
            done = 0
            while done < len(view):
                done += self._patiently(lambda: self._socket.send(view[done:]), select.POLLOUT)  # noqa: B023

    def send_file(self, fd: int, offset: int, size: int) -> None:
        """A part of a regular file. EOFError: it is shorter."""
        end = offset + size
        while offset < end:
            done = self._patiently(lambda: os.sendfile(self._socket.fileno(), fd, offset, end - offset), select.POLLOUT)  # noqa: B023
            if not done:
                raise EOFError(f"the file ends at byte {offset}, {end - offset} more are wanted")
            offset += done

    def receive_into(self, view: memoryview) -> int:
        """Some bytes; how many. 0: the peer has closed its side."""
        return self._patiently(lambda: self._socket.recv_into(view), select.POLLIN)

    def receive(self, size: int) -> bytes:
        """Exactly that many bytes. CrError: the peer closed its side before."""
        content = bytearray(size)
        with memoryview(content) as view:
            done = 0
            while done < size:
                part = self.receive_into(view[done:])
                if not part:
                    raise CrError(f"{self.peer} has ended the connection, {size - done} bytes too early")
                done += part
        return bytes(content)

    def wait_writable(self) -> None:
        """Until it takes more, or would say why not."""
        self._wait(select.POLLOUT)

    def failed(self, error: OSError) -> CrError:
        """What has become of the connection."""
        why = "; its log may say why" if error.errno in (errno.EPIPE, errno.ECONNRESET) else ""
        return CrError(f"the connection to {self.peer} has failed: {error.strerror or error}{why}")

    def _patiently(self, attempt: Callable[[], int], event: int) -> int:
        try:
            return self._attempt(attempt, event)
        except OSError as error:
            raise self.failed(error) from error

    def _attempt(self, attempt: Callable[[], int], event: int) -> int:
        """Until it works, or fails for good. event: what it waits for."""
        while True:
            try:
                return attempt()
            except BlockingIOError:
                self._wait(event)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        if not poll.poll(self.patience * 1000):
            what = "takes" if event == select.POLLOUT else "says"
            raise CrError(f"{self.peer} {what} nothing any more, {self.patience:g} seconds were waited")
