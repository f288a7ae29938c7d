"""What image proxy and image cache have in common as servers: a thread for each connection, and an end for all."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from typing import TYPE_CHECKING

from engine import log
from engine.errors import CrError, text_of
from engine.transport.channel import notice_death
from engine.transport.frames import GREETING, Garbage, ImageLink, Op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Serve: TypeAlias = Callable[[ImageLink], None]

_MOST = 64
"""Connections at a time: each takes up to a frame of memory, and a stack."""
_DRAIN_SECONDS = 5.0
_END_SECONDS = 2.0
_FULL_SECONDS = 1


class Sessions:
    """Accepts connections and serves each in a thread of its own. Used by one thread, which waits in serve()."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._doors: dict[int, tuple[socket.socket, str, Serve]] = {}
        self._running: set[threading.Thread] = set()
        self._is_full = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def add_door(self, sock: socket.socket, who: str, serve: Serve) -> None:
        """Whoever connects to a listening socket is served by this, which begins by answering OK to a greeting that has
        been found right. who: "a dump"."""
        self._doors[sock.fileno()] = sock, who, serve

    def wake(self) -> None:
        """Have serve() look again at what it waits for. From any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def serve(self, is_over: Callable[[], bool], watched: Callable[[], Iterable[int]] = tuple) -> None:
        """Until it is over, which is looked for after whatever happens. watched: other descriptors to wake up for.

        Where there is no descriptor or memory for a connection, it waits until another one has ended, or a second.
        """
        while not is_over():
            poll = select.poll()
            for fd in (self._wake_read, *(() if self._is_full else self._doors), *watched()):
                poll.register(fd, select.POLLIN)
            found = poll.poll(_FULL_SECONDS * 1000 if self._is_full else None)
            self._is_full = False
            for fd, _ in found:
                if fd == self._wake_read:
                    os.read(fd, 4096)
                elif fd in self._doors:
                    self._accept(*self._doors[fd])
            self._running = {thread for thread in self._running if thread.is_alive()}

    def finish(self) -> None:
        """Give those who are being served a moment to hear why they are no longer."""
        for thread in self._running:
            thread.join(_END_SECONDS)

    def _accept(self, door: socket.socket, who: str, serve: Serve) -> None:
        try:
            sock, address = door.accept()
        except OSError as error:
            self._is_full = error.errno not in (errno.EAGAIN, errno.ECONNABORTED)
            log.warn(f"the connection of {who} can't be accepted: {error.strerror}")
            return
        peer = who
        if door.family != socket.AF_UNIX:
            peer = f"{who} at {address[0]} port {address[1]}"
            notice_death(sock, self._patience)
        link = ImageLink(sock, peer, self._patience)
        if len(self._running) >= _MOST:
            link.refuse(f"{_MOST} connections are being served, which is all")
            link.close()
            return
        thread = threading.Thread(target=self._serve, args=(link, serve), daemon=True)
        self._running.add(thread)
        thread.start()

    def _serve(self, link: ImageLink, serve: Serve) -> None:
        """Nothing that happens here ends more than this connection."""
        try:
            if _is_greeted(link):
                serve(link)
        except CrError as error:
            self._refuse(link, error.message)
        except OSError as error:
            self._refuse(link, text_of(error))
        except MemoryError:
            self._refuse(link, "there is not enough memory")
        except Exception as error:
            self._refuse(link, f"internal error {type(error).__name__}: {error}")
        finally:
            link.close()
            self.wake()

    def _refuse(self, link: ImageLink, why: str) -> None:
        """A connection that is closed with something unread resets the other end, which could then miss the reason."""
        log.error(f"{link.peer}: {why}" if link.peer not in why else why)
        link.refuse(why)
        link.drain(_DRAIN_SECONDS)


def _is_greeted(link: ImageLink) -> bool:
    """Whether there is somebody who wants anything."""
    frame = link.hear()
    if frame is None:
        return False
    if frame.op != Op.HELLO or bytes(frame.body) != GREETING:
        raise Garbage(f"{link.peer} does not begin as a peer of this version does")
    return True
