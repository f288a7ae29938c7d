"""What a lazy restore does: it leaves mappings empty, and hands their userfaultfds to the daemon."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel import pagemap, userfaultfd
from engine.kernel.features import has
from engine.kernel.libc import NR, syscall
from engine.lazy.images import is_elsewhere, lazy_ranges
from engine.lazy.link import Connection
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from engine.images.pagemap import PageReader
    from engine.restore_context import RestoreContext, RestoredTask

    Message = Any
    Range = tuple[int, int]

_MADV_DONTNEED = 4
_FEATURES = userfaultfd.FEATURE_EVENTS | userfaultfd.FEATURE_THREAD_ID


class LazyTasks:
    """--lazy-pages. Without it, nothing happens here."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._daemon: Connection | None = None
        self._ranges: dict[int, list[Range]] = {}

    def check(self) -> None:
        """Whether the kernel can do it, and somebody is there to bring the pages."""
        opts, problems = self._ctx.opts, self._ctx.problems
        if not opts.lazy_pages:
            return
        if not has("uffd-noncoop"):
            problems.add("--lazy-pages: this kernel's userfaultfd does not tell of forks", remedy="restore without it")
        if opts.auto_dedup:
            problems.add("--auto-dedup would take away the pages that --lazy-pages has yet to bring", remedy="use one")
        with problems:
            self._daemon = Connection()

    def leave_out(self, pid: int, mm: Message, reader: PageReader) -> list[Range]:
        """The mappings of a task that the restore does not fill. Raises CrError when it would have to, and can't."""
        ranges = self._ranges[pid] = lazy_ranges(mm, reader) if self._ctx.opts.lazy_pages else []
        later = iter([*ranges, (1 << 64, 1 << 64)])
        start, end = next(later)
        for vaddr, nr_pages, flags in reader.runs:
            while end <= vaddr:
                start, end = next(later)
            if is_elsewhere(flags) and not start <= vaddr < vaddr + nr_pages * 4096 <= end:
                what = f"pagemap-{pid}.img: the pages at {vaddr:#x} are still where they were dumped (--lazy-pages)"
                if not self._ctx.opts.lazy_pages:
                    raise CrError(f"{what}; restore with --lazy-pages, too")
                raise CrError(f"{what}, but belong to a mapping that can't be filled later; dump without it")
        return ranges

    def hand_over(self, task: RestoredTask) -> None:
        """When all mappings of a task are as they are to be, and nothing has touched any. Raises OSError."""
        if self._daemon:
            fd = _watch(task, self._ranges[task.pid])
            try:
                self._daemon.announce(task.pid, fd)
            finally:
                os.close(fd)

    def hand_over_dead(self) -> None:
        """The zombies, which have no memory. Raises OSError."""
        if self._daemon:
            for task in self._ctx.tasks:
                if task.ids is None:
                    self._daemon.announce_dead(task.pid)

    def check_daemon(self) -> None:
        """Raises CrError when the daemon is dead, and with it the tree."""
        if self._daemon and not self._daemon.is_alive():
            raise CrError("the lazy-pages daemon has ended before the restore was complete; see its log")

    def finish(self) -> None:
        """The tasks run. A daemon that is not told so kills them. Raises CrError when it can't be told."""
        if self._daemon:
            try:
                self._daemon.finish()
            except OSError as error:
                raise CrError("the lazy-pages daemon has died, and has the tree killed; see its log") from error
            finally:
                self.close()

    def close(self) -> None:
        """All has been said: what may become of this does not make the restore one that has failed."""
        if self._daemon:
            with contextlib.suppress(OSError):
                self._daemon.close()
            self._daemon = None


def _watch(task: RestoredTask, ranges: list[Range]) -> int:
    """Have faults of a task's empty mappings told: a userfaultfd, of which the task keeps nothing."""
    tape = Tape()
    made = tape.call("userfaultfd", os.O_CLOEXEC | os.O_NONBLOCK)
    task.stub.run(tape)
    pidfd = os.pidfd_open(task.pid)
    try:
        fd = syscall(NR["pidfd_getfd"], pidfd, made.result, 0)
    finally:
        os.close(pidfd)
    try:
        tape = Tape()
        tape.call("close", made.result)
        task.stub.run(tape)
        userfaultfd.open_api(fd, _FEATURES)
        register_empty(task, fd, ranges)
    except BaseException:
        os.close(fd)
        raise
    return fd


def register_empty(task: RestoredTask, fd: int, ranges: list[Range]) -> None:
    """A huge page for what has been read in next to a mapping may have come to lie in it, too. And somebody may look:
    ps(1) reads words and environment of every task out of its memory, and where there is nothing yet that leaves a page
    of zeros, which nobody would be told to fill. So it is emptied, registered, and looked at, until it was empty."""
    while ranges:
        tape = Tape()
        for start, end in ranges:
            tape.call("madvise", start, end - start, _MADV_DONTNEED)
        task.stub.run(tape)
        for start, end in ranges:
            userfaultfd.register_missing(fd, start, end)
        ranges = pagemap.populated(task.pid, ranges)
        for start, end in ranges:
            userfaultfd.unregister(fd, start, end)
