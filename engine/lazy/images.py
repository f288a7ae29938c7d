"""Pages from local images. They never pass through Python: the kernel copies them from the mapped file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.images.pagemap import PageReader
from engine.images.runs import LAZY, PAGE, PARENT, PRESENT
from engine.kernel.libc import NR, syscall
from engine.lazy.pending import Pending
from engine.task import vma as vmas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.images.directory import ImageDir

    Message = Any
    Range = tuple[int, int]

_PROT_READ, _MAP_SHARED = 1, 1


class Part(NamedTuple):
    """Pages of the images from start to end. source: where they are in our memory, None when they are elsewhere."""

    start: int
    end: int
    source: int | None


def lazy_ranges(mm: Message, reader: PageReader) -> list[Range]:
    """The mappings of an mm_entry that are filled later: whole ones, ascending, that have pages at all."""
    return [
        (entry.start, entry.end)
        for entry in mm.vmas
        if vmas.is_lazy(entry) and next(reader.entries(entry.start, entry.end), None)
    ]


def is_elsewhere(flags: int) -> bool:
    """Whether the pages of a run are in no images, but with whoever dumped them."""
    return flags & (LAZY | PARENT | PRESENT) == LAZY


class LazyImages:
    """The images of one address space."""

    def __init__(self, images: ImageDir, pid: int) -> None:
        """Raises CrError for images that are not whole."""
        self._reader = PageReader(images, pid, "PAGEMAP")
        self._mapped = {fd: _map(fd) for fd in self._reader.pages_fds()}
        self.ranges = lazy_ranges(images.read_one("MM", pid), self._reader)

    def pending(self) -> Pending:
        """All that there is to come."""
        pending = Pending()
        for start, end in self.ranges:
            pending.add(start, end)
        return pending

    def needs_server(self) -> bool:
        """Whether some of it is not here."""
        return any(
            is_elsewhere(flags) for start, end in self.ranges for _, _, flags, _ in self._reader.entries(start, end)
        )

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """The pages between start and end, ascending. What is in none is zero."""
        for vaddr, nr_pages, flags, _ in self._reader.entries(start, end):
            stop = vaddr + nr_pages * PAGE
            if is_elsewhere(flags):
                yield Part(vaddr, stop, None)
                continue
            for at, number, fd, offset in self._reader.segments(vaddr, stop):
                yield Part(at, at + number * PAGE, self._mapped[fd] + offset)

    def next(self, address: int) -> int | None:
        """The first page at an address or behind it."""
        entry = next(self._reader.entries(address, 1 << 64), None)
        return entry[0] if entry else None


def _map(fd: int) -> int:
    """The address of a file in our memory."""
    return syscall(NR["mmap"], None, os.fstat(fd).st_size, _PROT_READ, _MAP_SHARED, fd, 0)
