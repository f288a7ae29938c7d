"""Whoever is at the other end of an engine that is stepped through: processes of the test's own, forked as the engine
is, so that a trial costs milliseconds.

Each of the functions calls `attempt` with the options that lead the engine to the other end, and ends that when the
engine has ended, or finds that it has ended by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, TypeVar

from engine.images.directory import ImageDir
from engine.lazy.images import LazyImages
from engine.lazy.remote import RemotePages
from engine.transport.channel import Channel
from engine.transport.protocol import Command
from tests.harm import verbs
from tests.harm.stepper import forked
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Result = TypeVar("Result")


class Partner:
    """A process that does some work."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._pid = forked(work)
        self._status: int | None = None

    def has_ended(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    def wait(self) -> int:
        """Its exit status, or the negative number of the signal that has ended it."""
        wait_until(self.has_ended, "the other side ends by itself")
        assert self._status is not None
        return self._status

    def end(self, number: int = signal.SIGKILL) -> int:
        """Unless it has ended."""
        if not self.has_ended():
            os.kill(self._pid, number)
        return self.wait()


@contextlib.contextmanager
def running(work: Callable[[], int]) -> Iterator[Partner]:
    partner = Partner(work)
    try:
        yield partner
    finally:
        partner.end()


def with_page_server(there: Path, attempt: Callable[[list[object]], Result]) -> tuple[Result, int]:
    """A dump whose pages go to a page server, and the server's exit status."""
    ours, its = socket.socketpair()

    def serve() -> int:
        ours.close()
        return verbs.verb("page-server", there, "--ps-socket", its.fileno())()

    with running(serve) as server:
        its.close()
        with ours:
            result = attempt(["--page-server", "--ps-socket", ours.fileno()])
        return result, server.wait()


def with_client(images: Path, attempt: Callable[[list[object]], Result]) -> tuple[Result, int]:
    """A dump that keeps pages in the tree, and the status of who fetches them: 0 when that has all, and knows that the
    dump has come to its end."""
    ours, its = socket.socketpair()
    ready, tells = os.pipe()

    def fetch() -> int:
        ours.close()
        os.close(tells)
        return _fetch_all(images, Channel(its, "the tree's side")) if os.read(ready, 1) else 1

    with running(fetch) as client:
        its.close()
        os.close(ready)
        with ours:
            result = attempt(["--lazy-pages", "--ps-socket", ours.fileno(), "--status-fd", tells])
            os.close(tells)
        return result, client.wait()


def _fetch_all(images: Path, channel: Channel) -> int:
    """Ask for every page that has been left in the tree, one run after the other, and take leave."""
    pages = RemotePages(channel)
    with ImageDir(str(images)) as directory:
        for entry in directory.read("PSTREE"):
            image = LazyImages(directory, entry.pid)
            for start, end in image.ranges:
                for part in image.parts(start, end):
                    pages.ask(entry.pid, part.start, part.end)
                    pages.receive()
    pages.take_leave(Command.FORCE_CLOSE)
    pages.receive()
    return 0 if pages.is_over else 1


def with_daemon(images: Path, attempt: Callable[[list[object]], Result]) -> tuple[Result, int]:
    """A lazy restore, and the exit status of the daemon that brings the pages. One to which no restore has come is
    asked to end."""
    with contextlib.suppress(FileNotFoundError):
        (images / "lazy-pages.log").unlink()
    ready, tells = os.pipe()
    with running(verbs.verb("lazy-pages", images, "--status-fd", tells)) as daemon:
        os.close(tells)
        assert os.read(ready, 1), verbs.log_of("lazy-pages", images)
        os.close(ready)
        result = attempt(["--lazy-pages"])

        def knows() -> bool:
            return daemon.has_ended() or "a connection comes to nothing" in verbs.log_of("lazy-pages", images)

        wait_until(knows, "the daemon knows what has become of the restore")
        return result, daemon.end(signal.SIGTERM)


def with_restore(images: Path, attempt: Callable[[list[object]], Result]) -> tuple[Result, int]:
    """A daemon that brings pages, and the exit status of the restore."""
    ready, tells = os.pipe()

    def restore() -> int:
        os.close(tells)
        return verbs.restore(images, "--lazy-pages")() if os.read(ready, 1) else 1

    with running(restore) as restoring:
        os.close(ready)
        result = attempt(["--status-fd", tells])
        os.close(tells)
        return result, restoring.wait()
