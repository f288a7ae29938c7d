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
from engine.lazy.link import NAME, Candidates, Restore
from engine.lazy.memory import LazyMemory
from engine.lazy.remote import AHEAD, RemotePages
from engine.progress import Progress
from engine.transport import endpoint
from engine.transport.protocol import Command

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

    return daemon.run(opts, "lazy-pages daemon", start)


class LazyPages:
    """The daemon."""

    def __init__(self, opts: Options) -> None:
        """Read the images and listen. Raises CrError."""
        daemon.raise_descriptor_limit()
        with ImageDir(opts.images_dir_fd, bounded=True) as images:
            self._pids = {entry.pid for entry in images.read("PSTREE")}
            self._images = {pid: LazyImages(images, pid) for pid in self._pids if images.exists("MM", pid)}
        self._farewell = Command.FORCE_CLOSE if opts.ps_socket >= 0 else Command.CLOSE
        self._remote = _connect(opts, self._images)
        self._pidfds: list[int] = []
        self._faults = 0
        self._progress = Progress("Bringing memory")
        self._memories: dict[int, LazyMemory] = {}
        self._guard: guard.Guard | None = None
        self._poll = select.poll()
        if self._remote:
            self._poll.register(self._remote.channel, select.POLLIN)
        self._advances = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            daemon.listen(self._listener, NAME, 0o600)
        except OSError as error:
            where = os.path.abspath(NAME)
            raise CrError(f"can't listen at {where}: {text_of(error)} (one daemon a work directory)") from error

    def serve(self) -> int:
        """Until all has come. Whatever ends it before ends the tasks."""
        try:
            restore = self._await_restore()
            with self._progress:
                while not (restore.finished and self._has_all() and self._is_released()):
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
        """The connection that is the first to announce a task. Nobody is kept waiting by one that says nothing."""
        candidates = Candidates(self._listener, self._pids, self._poll)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._listener.fileno():
                    candidates.admit()
                elif candidate := candidates.at(fd):
                    if self._is_restore(candidate, candidates):
                        candidates.close(but=candidate)
                        self._remove_name()
                        return candidate
                elif self._remote and fd == self._remote.channel.fileno():
                    self._receive(self._remote)

    def _is_restore(self, candidate: Restore, candidates: Candidates) -> bool:
        """Hear what it says. One that talks rubbish is dropped, unless it has brought a task before."""
        try:
            self._hear(candidate)
        except CrError as error:
            if self._guard:
                raise
            candidates.drop(candidate, error.message)
        return bool(self._memories) or candidate.finished

    def _remove_name(self) -> None:
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NAME)

    def _has_all(self) -> bool:
        """Whether nothing is left to be brought. Tasks whose source may yet fail to end are not let out of sight."""
        for memory in list(self._memories.values()):
            if memory.gone or not memory.pending and not self._remote:
                self._dismiss(memory)
        return not any(memory.pending for memory in self._memories.values())

    def _is_released(self) -> bool:
        """Whether the source knows that nothing more is needed, and has said so."""
        if not self._remote:
            return True
        self._remote.take_leave(self._farewell)
        return self._remote.is_over

    def _step(self, restore: Restore) -> None:
        """Look at what has happened, answer faults, fill a little."""
        ready = [fd for fd, _ in self._poll.poll(self._wait_ms())]
        if not ready and not self._advances and self._remote and self._remote.waits:
            channel = self._remote.channel
            raise CrError(f"{channel.peer} does not answer, {channel.patience:g} seconds were waited")
        for fd in ready:
            if fd in self._memories:
                self._memories[fd].listen()
            elif self._guard and fd == self._guard.pidfd:
                self._renew_guard()
            elif fd == restore.sock.fileno():
                self._hear(restore)
            elif self._remote:
                self._receive(self._remote)
        while self._remote and self._remote.channel.has_more:
            self._receive(self._remote)
        self._advances = False
        for memory in list(self._memories.values()):
            self._answer(memory)
            if restore.finished and not memory.faults and not memory.gone:
                self._advances |= self._go_ahead(memory)
            self._advances |= bool(memory.faults)

    def _wait_ms(self) -> float | None:
        """How long nothing may happen."""
        if self._advances:
            return 0
        return self._remote.channel.patience * 1000 if self._remote and self._remote.waits else None

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
        """A task of the restore. Its pidfd is there for the guard to find. The restore waits for no answer: by now the
        task may have run, ended and been reaped."""
        try:
            self._pidfds.append(os.pidfd_open(pid))
        except ProcessLookupError:
            os.close(fd)
            return
        if self._guard is None:
            self._guard = guard.Guard()
            self._poll.register(self._guard.pidfd, select.POLLIN)
        pending = self._images[pid].pending()
        self._progress.expect(pending.size)
        self._adopt(LazyMemory(pid, fd, pending, self._adopt))

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
            if not self._bring(memory, start + distance, memory.cursor + distance, page + distance):
                memory.settle(page)

    def _bring(self, memory: LazyMemory, start: int, end: int, page: int = -1) -> bool:
        """A part of the images, wherever in memory it belongs. Returns whether a certain page is not there yet, but
        comes from elsewhere."""
        comes = False
        position = start
        for part in self._images[memory.pid].parts(start, end):
            memory.pending.drop_origin(position, part.start)
            position = part.end
            if part.source is not None:
                memory.fill(part.start, part.end, part.source)
                self._progress.add(part.end - part.start)
            else:
                comes |= part.start <= page < part.end
                assert self._remote
                self._remote.ask(memory.pid, part.start, part.end)
        memory.pending.drop_origin(position, end)
        return comes

    def _receive(self, remote: RemotePages) -> None:
        """An answer, for all who wait for it. Without a question it can only be the end of the connection."""
        if not remote.waits:
            raise CrError(f"{remote.channel.peer} has ended the connection before all was said")
        reply = remote.receive()
        if reply:
            self._progress.add(reply.end - reply.start)
        for memory in list(self._memories.values()):
            if reply and memory.pid == reply.pid:
                memory.fill(reply.start, reply.end, reply.source)

    def _go_ahead(self, memory: LazyMemory) -> bool:
        """Bring the next that is pending. Returns whether there was anything to do."""
        if self._remote and self._remote.is_busy:
            return False
        for address in (memory.cursor, 0):
            while piece := memory.pending.next(address):
                skipped = max(address - piece.start, 0)
                start, end = piece.origin + skipped, piece.origin + piece.end - piece.start
                page = self._images[memory.pid].next(start)
                if page is None or page >= end:
                    page = end
                memory.pending.drop_origin(start, page)
                end = min(end, page + (AHEAD if self._remote else _AHEAD))
                memory.cursor = address = piece.start + end - piece.origin
                parts = self._remote.unasked(memory.pid, page, end) if self._remote else [(page, end)]
                for part in parts:
                    self._bring(memory, *part)
                if parts and page < end:
                    return True
        return False


def _connect(opts: Options, images: dict[int, LazyImages]) -> RemotePages | None:
    """Whoever has the pages that the images lack. Raises CrError."""
    if opts.page_server or opts.ps_socket >= 0:
        return RemotePages(endpoint.connect(opts))
    elsewhere = [str(pid) for pid, image in images.items() if image.needs_server()]
    if elsewhere:
        tasks = f"{'task' if len(elsewhere) == 1 else 'tasks'} {', '.join(elsewhere)}"
        raise CrError(f"the images lack pages of {tasks}, which are where it was dumped (--page-server says where)")
    return None
