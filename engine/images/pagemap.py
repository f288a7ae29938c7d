"""Page maps: which pages of an address space or of shared memory an image set holds, and where.

pagemap-PID.img (PAGEMAP) and pagemap-shmem-ID.img (SHMEM_PAGEMAP) start with the number N of a pages file and go on
with runs of pages, ascending. pages-N.img has the bytes of the PRESENT runs, one after the other and nothing else.
A PARENT run was unchanged since the parent images, where it is looked up by its address. A LAZY run that is not
PRESENT is served over the network later. Pages in no run are zero, or those of the mapped file.
"""

from __future__ import annotations

import os
from bisect import bisect_right

from engine.errors import CrError
from engine.images.runs import PAGE, PARENT, PRESENT, Runs, decode, encode
from engine.images.schema import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from engine.images.directory import ImageDir
    from engine.images.reader import ImageReader

    Segment = tuple[int, int, int, int]

_WINDOW = 256 << 10

# A pre-dump every second would take hours to get here; each level costs two descriptors.
MAX_PARENTS = 256


class PagemapWriter:
    """Writes one page map and hands out the file its pages go to.

        with PagemapWriter(images, pid, "PAGEMAP", pages_id) as writer:
            fd = writer.pages_fd          # the task pwritev()s the PRESENT runs there, in order
            writer.write(runs)

    Both files vanish when the `with` is left by an exception.
    """

    def __init__(self, images: ImageDir, id: int, kind: str, pages_id: int) -> None:
        """id: virtual pid for PAGEMAP, shmid for SHMEM_PAGEMAP. pages_id: N of pages-N.img, unique in these images."""
        self.pages_id = pages_id
        self._pagemap = images.writer(kind, id)
        self.pages = images.writer("PAGES", pages_id)
        self._has_head = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self._pagemap, self.pages:
            writer.__exit__(*exception)  # type: ignore[arg-type]

    @property
    def pages_fd(self) -> int:
        """pages-N.img, open for writing and empty at first. Asking for it creates it; valid until the `with` ends."""
        return self.pages.file.fileno()

    def write(self, runs: Iterable[tuple[int, int, int]]) -> None:
        """Write runs (vaddr in bytes, nr_pages, flags), behind the head and those that have been written before. A
        run's pages are those next in the pages file."""
        if not self._has_head:
            self._pagemap.put(message("pagemap_head")(pages_id=self.pages_id))
            self._has_head = True
        for piece in encode(runs):
            self._pagemap.put_payload(piece)


def read_pagemap(images: ImageDir, id: int, kind: str = "PAGEMAP") -> tuple[int, Runs]:
    """pages_id and the runs, found sound by Runs.problem(). CrError: the file is missing or damaged."""
    with images.reader(kind, id) as reader:
        pages_id, runs = next(reader).pages_id, Runs()
        while reader.left:
            done = decode(reader.peek(_WINDOW), runs)
            reader.skip(done)
            if done == 0:
                _read_one_by_one(reader, runs)
        problem = runs.problem()
        if problem is not None:
            raise reader.error(problem)
    return pages_id, runs


def _read_one_by_one(reader: ImageReader, runs: Runs) -> None:
    """The rest of a file with entries of another form, those of old versions for example.

    Once there were no flags, only in_parent; and before nr_pages there was what is compat_nr_pages now.
    """
    for entry in reader:
        nr_pages = entry.nr_pages if entry.HasField("nr_pages") else entry.compat_nr_pages
        flags = entry.flags if entry.HasField("flags") else PARENT if entry.in_parent else PRESENT
        runs.append(entry.vaddr, nr_pages, flags)


class PageReader:
    """Where the bytes of a page map's pages are, its parents' included.

    Everything is read and checked when it is made: that the runs make sense, that the pages files are long enough, and
    that each PARENT run is found in the parents. So a restore that has one can count on its segments. Its descriptors
    stay open until close(), or the end of its `with`.
    """

    def __init__(self, images: ImageDir, id: int, kind: str = "PAGEMAP") -> None:
        """id: virtual pid for PAGEMAP, shmid for SHMEM_PAGEMAP. CrError: anything missing, damaged or too short."""
        self._levels: list[_Level] = []
        try:
            self._open_chain(images, id, kind)
            self.nr_pages = sum(nr_pages for _, nr_pages, _, _ in self.segments())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for level in self._levels:
            level.close()

    @property
    def runs(self) -> Runs:
        """The runs of the newest page map as they are, LAZY ones included."""
        return self._levels[0].runs

    def pages_fds(self) -> list[int]:
        """The descriptors that occur in segments, newest images first: to send them to a task."""
        return [level.fd for level in self._levels if level.fd >= 0]

    def segments(self, start: int = 0, end: int = 1 << 64) -> Iterator[Segment]:
        """(vaddr, nr_pages, fd, file_offset) of the pages stored for [start, end), ascending.

        start and end are multiples of the page size. A page comes from the newest images that have it; what adjoins
        in memory and in the file is one segment. nr_pages of this object is the sum over all segments. fd is -1 for
        images that have no pages here (ImageDir.has_pages).
        """
        return _joined(self._resolve(0, start, end))

    def entries(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(vaddr, nr_pages, flags, file_offset) of the runs of the newest page map within [start, end), cut to it."""
        return self._levels[0].overlapping(start, end)

    def all_stored(self, start: int = 0, end: int = 1 << 64) -> Iterator[Segment]:
        """As segments(), but all that any images of the chain have, needed or not."""
        for level in self._levels:
            for vaddr, nr_pages, flags, offset in level.overlapping(start, end):
                if flags & PRESENT:
                    yield vaddr, nr_pages, level.fd, offset

    def _open_chain(self, images: ImageDir, id: int, kind: str) -> None:
        """Read the page map and, as long as there are PARENT runs, that of the next parent."""
        parents: list[ImageDir] = []
        seen: set[object] = set()
        directory = images
        try:
            while True:
                if directory.identity in seen or len(seen) > MAX_PARENTS:
                    what = "the parent links go round in circles, or further than any dump's"
                    raise CrError(f"{directory.name}: {what} (have each lead to the dump before)")
                seen.add(directory.identity)
                level = _Level(directory, id, kind)
                self._levels.append(level)
                if not level.refers_to_parent:
                    return
                parent = directory.parent()
                if parent is None:
                    what = f"{level.path} refers to parent images, but its directory has no link `parent`"
                    raise CrError(f"{what} (have it lead to the images of the dump before)")
                parents.append(parent)
                directory = parent
        finally:
            for parent in parents:
                parent.close()

    def _resolve(self, depth: int, start: int, end: int) -> Iterator[Segment]:
        """The segments of [start, end) as the page map `depth` parents away has them.

        A parent is asked only for what must be there, so that a gap in it is an error.
        """
        level = self._levels[depth]
        covered = start
        for vaddr, nr_pages, flags, offset in level.overlapping(start, end):
            if depth and vaddr > covered:
                break
            covered = vaddr + nr_pages * PAGE
            if flags & PRESENT:
                yield vaddr, nr_pages, level.fd, offset
            elif flags & PARENT:
                yield from self._resolve(depth + 1, vaddr, covered)
            elif depth:
                what = f"{level.path}: the pages at {vaddr:#x} are needed by a later dump, but are lazy"
                raise CrError(f"{what} (dump without --lazy-pages what others build on)")
        if depth and covered < end:
            what = f"{level.path}: the page at {covered:#x} is needed by a later dump, but is not there"
            raise CrError(f"{what} (does the link `parent` lead to the dump before?)")


class _Level:
    """One page map of the chain, with its pages file open if it has any pages (fd, else -1)."""

    def __init__(self, images: ImageDir, id: int, kind: str) -> None:
        self.path = images.path(kind, id)
        pages_id, self.runs = read_pagemap(images, id, kind)
        self._stored_before = self.runs.stored_before()
        self.refers_to_parent = any(flags & (PRESENT | PARENT) == PARENT for flags in set(self.runs.flags))
        self.fd = -1
        if self._stored_before[-1]:
            self.fd = _open_pages(images, pages_id, self._stored_before[-1] * PAGE, self.path)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def overlapping(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(vaddr, nr_pages, flags, file_offset) of the runs within [start, end), cut to it."""
        for index in range(max(bisect_right(self.runs.vaddr, start) - 1, 0), len(self.runs)):
            vaddr, nr_pages, flags = self.runs[index]
            if vaddr >= end:
                break
            begin, stop = max(vaddr, start), min(vaddr + nr_pages * PAGE, end)
            if begin < stop:
                offset = self._stored_before[index] * PAGE + begin - vaddr
                yield begin, (stop - begin) // PAGE, flags, offset


def _open_pages(images: ImageDir, pages_id: int, needed: int, pagemap: str) -> int:
    """A descriptor of pages-N.img; -1: the pages are not here. CrError: it is shorter than the needed bytes that the
    page map speaks of."""
    if not images.has_pages:
        size = images.size_of("PAGES", pages_id)
        if size is None:
            raise images.missing("PAGES", pages_id)
        if size < needed:
            raise CrError(f"{images.path('PAGES', pages_id)} has {size} bytes, but {pagemap} puts {needed} there")
        return -1
    with images.reader("PAGES", pages_id) as reader:
        if reader.size < needed:
            raise reader.error(f"it has {reader.size} bytes, but {pagemap} puts {needed} there")
        return os.dup(reader.fd)


def _joined(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Segments, those that adjoin in memory and in the same file made one.

    What adjoins in memory and comes from one file adjoins there, too: it was in the same page map with nothing between.
    """
    last: Segment | None = None
    for vaddr, nr_pages, fd, offset in segments:
        if last is not None:
            if last[0] + last[1] * PAGE == vaddr and last[2] == fd:
                last = last[0], last[1] + nr_pages, fd, last[3]
                continue
            yield last
        last = vaddr, nr_pages, fd, offset
    if last is not None:
        yield last
