"""crucible lazy-pages: the daemon that brings the pages of a lazy restore.

It serves one restore. From the first task on it answers faults. When the restore has succeeded it also fills, while
there are no faults, what nobody has asked for, going on where the last fault was. It ends when all has come; until then
no task may lose it: guard.py.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Any

from engine import daemon, log
from engine.errors import CrError, text_of
from engine.images.directory import ImageDir
from engine.lazy import guard
from engine.lazy.images import LazyImages
from engine.lazy.link import NAME, Restore
from engine.lazy.memory import LazyMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options

    Message = Any

_WINDOW = 64 << 10
"""What a fault brings: the aligned piece of this size around its page."""
_AHEAD = 256 << 10
"""What is filled at once without having been asked for: as long as a fault may have to wait."""


def run(opts: Options) -> int:
    """The verb. Returns the exit status; raises CrError."""

    def start() -> Callable[[], int]:
        return LazyPages(opts).serve

    return daemon.run(opts, "lazy-pages", start)


class LazyPages:
    """The daemon."""

    def __init__(self, opts: Options) -> None:
        """Read the images and listen. Raises CrError."""
        _widen_limit()
        with ImageDir(opts.images_dir_fd, bounded=True) as images:
            self._pids = {entry.pid for entry in images.read("PSTREE")}
            self._images = {pid: LazyImages(images, pid) for pid in self._pids if images.exists("MM", pid)}
        self._pidfds: list[int] = []
        self._faults = 0
        self._memories: dict[int, LazyMemory] = {}
        self._guard: guard.Guard | None = None
        self._poll = select.poll()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            daemon.listen(self._listener, NAME, 0o600)
        except OSError as error:
            raise CrError(f"can't listen at {os.path.abspath(NAME)}: {text_of(error)}") from error

    def serve(self) -> int:
        """Until all has come. Whatever ends it before ends the tasks."""
        try:
            restore = self._await_restore()
            while not (restore.finished and not self._memories):
                self._step(restore)
        except BaseException as error:
            if self._guard:
                log.error("not all pages could be brought: the tasks that need them are killed")
                guard.end_tasks()
            if isinstance(error, OSError):
                raise CrError(f"pages can't be brought: {text_of(error)}") from error
            raise
        finally:
            if self._guard:
                self._guard.end()
            self._remove_name()
        log.info(f"All pages have come, after {self._faults} faults")
        return 0

    def _await_restore(self) -> Restore:
        """The first connection that announces a task. Others are none of a restore."""
        while True:
            sock, _ = self._listener.accept()
            restore = Restore(sock, self._pids)
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            try:
                while not self._memories and not restore.finished:
                    poll.poll()
                    self._hear(restore)
            except CrError as error:
                if self._guard:
                    raise
                log.warn(f"a connection comes to nothing: {error.message}")
                sock.close()
                continue
            self._poll.register(sock, select.POLLIN)
            self._remove_name()
            return restore

    def _remove_name(self) -> None:
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NAME)

    def _step(self, restore: Restore) -> None:
        """Look at what has happened, answer faults, fill a little."""
        goes_ahead = restore.finished and bool(self._memories)
        for fd, _ in self._poll.poll(0 if goes_ahead else None):
            if fd in self._memories:
                self._memories[fd].listen()
            elif self._guard and fd == self._guard.pidfd:
                self._renew_guard()
            elif fd == restore.sock.fileno():
                self._hear(restore)
        for memory in list(self._memories.values()):
            self._answer(memory)
            if restore.finished and not memory.faults and not memory.gone:
                self._go_ahead(memory)
            if memory.gone or not memory.pending:
                self._dismiss(memory)

    def _hear(self, restore: Restore) -> None:
        for pid, fd in restore.read():
            if fd < 0:
                continue
            if pid not in self._images:
                raise CrError(f"the restore has sent a userfaultfd of task {pid}, which is dead in the images")
            self._take_on(pid, fd)
        if restore.finished:
            self._poll.unregister(restore.sock)
            restore.sock.close()

    def _take_on(self, pid: int, fd: int) -> None:
        """A task of the restore. Its pidfd is there for the guard to find."""
        self._pidfds.append(os.pidfd_open(pid))
        if self._guard is None:
            self._guard = guard.Guard()
            self._poll.register(self._guard.pidfd, select.POLLIN)
        self._adopt(LazyMemory(pid, fd, self._images[pid].pending(), self._adopt))

    def _adopt(self, memory: LazyMemory) -> None:
        self._memories[memory.fd] = memory
        self._poll.register(memory.fd, select.POLLIN)

    def _dismiss(self, memory: LazyMemory) -> None:
        self._poll.unregister(memory.fd)
        del self._memories[memory.fd]
        memory.close()

    def _renew_guard(self) -> None:
        """Somebody has killed it."""
        assert self._guard is not None
        log.warn(f"the guard, process {self._guard.pid}, has died; there is a new one")
        self._poll.unregister(self._guard.pidfd)
        self._guard.end()
        self._guard = guard.Guard()
        self._poll.register(self._guard.pidfd, select.POLLIN)

    # Pages

    def _answer(self, memory: LazyMemory) -> None:
        """The faults that were told by now."""
        faults, memory.faults = memory.faults, {}
        self._faults += len(faults)
        for page in faults:
            piece = memory.pending.at(page)
            if piece is None:
                memory.settle(page)
                continue
            distance = piece.origin - piece.start
            start = max(piece.start, page & -_WINDOW)
            memory.cursor = min(piece.end, (page & -_WINDOW) + _WINDOW)
            if self._bring(memory, start + distance, memory.cursor + distance, page + distance):
                memory.wake(page)
            else:
                memory.settle(page)

    def _bring(self, memory: LazyMemory, start: int, end: int, page: int = -1) -> bool:
        """A part of the images, wherever in memory it belongs. Returns whether it has a certain page."""
        has_page = False
        for part in self._images[memory.pid].parts(start, end):
            assert part.source is not None
            has_page |= part.start <= page < part.end
            memory.fill(part.start, part.end, part.source)
        memory.pending.drop_origin(start, end)
        return has_page

    def _go_ahead(self, memory: LazyMemory) -> None:
        """Bring the next that is pending."""
        piece = memory.pending.next(memory.cursor) or memory.pending.next(0)
        if piece is None:
            return
        skipped = max(memory.cursor - piece.start, 0) if memory.cursor < piece.end else 0
        start, end = piece.origin + skipped, piece.origin + piece.end - piece.start
        page = self._images[memory.pid].next(start)
        if page is None or page >= end:
            page = end
        memory.pending.drop_origin(start, page)
        end = min(end, page + _AHEAD)
        self._bring(memory, page, end)
        memory.cursor = end - piece.origin + piece.start


def _widen_limit() -> None:
    """Every child of a fork brings a descriptor."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
