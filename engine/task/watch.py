"""Which pages of a task are as its parent images have them, and having the kernel watch which ones change next.

By what the kernel has, one of three ways:

    write protection    userfaultfd in asynchronous mode, with PAGEMAP_SCAN (Linux 6.7)
    soft-dirty bits     /proc/PID/clear_refs (CONFIG_MEM_SOFT_DIRTY)
    comparison          with the bytes in the parent images

All three err on one side: a page that nobody can vouch for counts as changed. So do the pages of a process that is not
the one of the parent images: its pid was used again, which its start tells.

The protection of a page means "unchanged since the last round", so a round must never be taken for another one. A
userfaultfd forgets everything when its last descriptor is closed. Between two rounds a process of ours, the holder, has
these descriptors, and the inventory of the images that the round belongs to names it. The next round takes them out of
the holder and ends it before any page is protected anew: images that were made from the older round then find no holder
and no page unchanged, and so do all if the engine dies before its images are complete: a new holder ends with it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from engine import log
from engine.images.runs import PAGE
from engine.kernel import pagemap_scan as scan
from engine.kernel import userfaultfd
from engine.kernel.pagemap import page_runs, protect_pages
from engine.task import holder, increment
from engine.task import vma as vmas
from engine.task.segments import Segment
from engine.transport.sink import FileSinks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.images.directory import ImageDir
    from engine.options import Options
    from engine.task.tree import Task
    from engine.transport.page_client import PageServerSinks
    from engine.transport.sink import PageSinks

    Message = Any
    Range = tuple[int, int]

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


class Parent:
    """The images that a dump builds on.

    inventory  its inventory_entry
    Raises CrError when there are no whole images.
    """

    def __init__(self, images: ImageDir) -> None:
        self.images = images
        self.inventory: Message = images.read_one("INVENTORY")

    @property
    def has_pages_here(self) -> bool:
        """Whether what its pages held can be read."""
        return self.images.has_pages

    def knows(self, task: Task) -> bool:
        """Whether its images are of this very process: one that was started before they were made. A tick is the
        resolution of /proc/PID/stat; a process that was started within the same one is not known for certain."""
        started = (task.stat.starttime + 1) * _TICK_US
        return started < self.inventory.dump_uptime and self._has_page_map(task.pid)

    def _has_page_map(self, pid: int) -> bool:
        return self.images.exists("PAGEMAP", pid)

    def stored(self, task: Task) -> list[Range]:
        """The pages it has of a task, ascending. Raises CrError for images that are not whole."""
        from engine.images.pagemap import PageReader

        with PageReader(self.images, task.pid) as reader:
            return [(vaddr, vaddr + nr_pages * PAGE) for vaddr, nr_pages, _, _ in reader.segments()]


class DistantParent(Parent):
    """The same, with the page maps kept by a page server. What these hold can't be asked for. But what the kernel says
    is unchanged since they were made was there then, and so it was stored; the server makes sure of it."""

    def __init__(self, images: ImageDir, sinks: PageServerSinks) -> None:
        super().__init__(images)
        self._sinks = sinks

    @property
    def has_pages_here(self) -> bool:
        return False

    def _has_page_map(self, pid: int) -> bool:
        return self._sinks.has_parent("PAGEMAP", pid)

    def stored(self, _: Task) -> list[Range]:
        return [(0, 1 << 64)]


@contextlib.contextmanager
def parent_of(images: ImageDir, opts: Options, sinks: PageSinks) -> Iterator[Parent | None]:
    """The images that --prev-images-dir names, relative to these. None: no such option."""
    if opts.prev_images_dir is None:
        yield None
        return
    with images.relative(opts.prev_images_dir) as directory:
        yield _parent_in(directory, sinks)


def _parent_in(directory: ImageDir, sinks: PageSinks) -> Parent:
    if isinstance(sinks, FileSinks):
        return Parent(directory)
    from engine.transport.page_client import PageServerSinks

    return DistantParent(directory, sinks) if isinstance(sinks, PageServerSinks) else Parent(directory)


class WriteProtection:
    """Has the userfaultfds of the last round from its holder, by pid."""

    name = "userfaultfd write protection"

    def __init__(self, parent: Parent | None) -> None:
        self._fds: dict[int, int] = {}
        self._old: holder.Holder | None = None
        self._new: holder.NewHolder | None = None
        self._others: list[tuple[set[int], holder.Holder]] | None = None
        if parent and parent.inventory.HasField("watch"):
            self._old = holder.find(parent.inventory.watch)
        if self._old:
            self._fds = self._old.take()

    def unchanged(self, task: Task, ranges: list[Range], _: Parent) -> Iterator[Range]:
        if task.pid in self._fds:
            yield from _in_state(task, ranges, scan.WPALLOWED, scan.WPALLOWED | scan.WRITTEN)

    def needs_visit(self, task: Task) -> bool:
        """Whether watch() has to be called while the task is visited."""
        return task.pid not in self._fds

    def begin(self) -> None:
        """A new round: from here on nobody can refer to the last one."""
        if self._old:
            self._old.end()
            self._old = None

    def watch(self, task: Task, mappings: Iterable[Message]) -> None:
        """Protect all pages of a visited task that have content of their own."""
        fd = self._fds.get(task.pid)
        if fd is None:
            assert task.visit is not None
            fd = self._fds[task.pid] = task.visit.take("userfaultfd", os.O_CLOEXEC | userfaultfd.USER_MODE_ONLY)
            userfaultfd.open_api(fd)
        ranges = [(entry.start, entry.end) for entry in mappings if _is_watchable(entry)]
        registered = [(start, end) for start, end in ranges if self._register(fd, start, end, task.pid)]
        protect_pages(task.proc, registered)

    def _register(self, fd: int, start: int, end: int, pid: int) -> bool:
        """Whether a mapping of a task can be watched."""
        try:
            return userfaultfd.register(fd, start, end)
        except userfaultfd.Taken:
            self._end_others(pid)
        try:
            return userfaultfd.register(fd, start, end)
        except userfaultfd.Taken:
            return False

    def _end_others(self, pid: int) -> None:
        """The kernel watches a page for one round only: those that have watched the task, but that these images do not
        build on, are over."""
        if self._others is None:
            self._others = holder.others()
        for tasks, other in self._others.copy():
            if pid in tasks:
                other.end()
                self._others.remove((tasks, other))

    def end(self, inventory: Message) -> None:
        """The images are about to be complete: have a new holder keep what watches the tasks."""
        living = {pid: fd for pid, fd in self._fds.items() if os.path.exists(f"/proc/{pid}")}
        if living:
            self._new = holder.start(living, inventory.watch)

    def undo(self) -> None:
        """The images are not to be, after all."""
        if self._new:
            self._new.end()
            self._new = None

    def close(self) -> None:
        """Comes after undo(), if that comes at all."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        for _, other in self._others or ():
            other.close()
        if self._new:
            self._new.confirm()


class SoftDirty:
    """The bit is set by every write, and for every page of a mapping that is new."""

    name = "soft-dirty bits"

    def unchanged(self, task: Task, ranges: list[Range], _: Parent) -> Iterator[Range]:
        yield from _in_state(task, ranges, 0, scan.SOFT_DIRTY)

    def needs_visit(self, _: Task) -> bool:
        return False

    def begin(self) -> None:
        pass

    def watch(self, task: Task, _: Iterable[Message]) -> None:
        with open(f"/proc/{task.proc}/clear_refs", "w") as file:
            file.write("4")

    def end(self, _: Message) -> None:
        pass

    def undo(self) -> None:
        pass

    def close(self) -> None:
        pass


class Comparison(SoftDirty):
    """Reads everything, but finds even pages that were written with what they had. Nothing is known to be unchanged
    where the parent's pages are on another machine."""

    name = "comparison with the parent images"

    def unchanged(self, task: Task, ranges: list[Range], parent: Parent) -> Iterator[Range]:
        from engine.images.pagemap import PageReader

        if not parent.has_pages_here:
            log.info(f"All pages of task {task.pid} count as changed: there is nothing to compare them with here")
            return
        with PageReader(parent.images, task.pid) as reader:
            for start, end in ranges:
                for vaddr, nr_pages, fd, offset in reader.segments(start, end):
                    segment = Segment(vaddr, vaddr + nr_pages * PAGE, fd, offset)
                    yield from increment.same_bytes(task.memory, segment)

    def watch(self, task: Task, _: Iterable[Message]) -> None:
        pass


Watch = WriteProtection | SoftDirty


@contextlib.contextmanager
def best(parent: Parent | None) -> Iterator[Watch]:
    """The best way that this kernel offers."""
    from engine.kernel.features import memory

    way: Watch = SoftDirty() if memory.soft_dirty() else Comparison()
    if memory.wp_async():
        way = WriteProtection(parent)
    log.info(f"Changed memory is found by {way.name}")
    try:
        yield way
    finally:
        way.close()


def _in_state(task: Task, ranges: list[Range], state: int, of: int) -> Iterator[Range]:
    """The pages in ranges whose categories are `state`, of those in `of`."""
    for run in page_runs(task.proc, ranges, report=of):
        if run.categories & of == state:
            yield run.vaddr, run.vaddr + run.nr_pages * scan.PAGE_SIZE


def _is_watchable(entry: Message) -> bool:
    written_by_kernel = entry.status & (vmas.VDSO | vmas.AIORING)
    return vmas.has_pages(entry) and not written_by_kernel and not entry.flags & vmas.MAP_HUGETLB
