"""The pages of memfds and of shared anonymous memory: pagemap-shmem-SHMID.img.

They go from file to file inside the kernel, holes left out. Files of huge pages know neither holes nor write(2) nor
sendfile(2) (fs/hugetlbfs/inode.c): they are read, and mapped to be written.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.pagemap import PageReader
from engine.images.runs import PAGE, PRESENT
from engine.kernel.extents import copy_range, data_ranges
from engine.kernel.libc import NR, syscall

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.images.directory import ImageDir

Message = Any

_KIND = "SHMEM_PAGEMAP"
HUGE_SHIFT = 26
MFD_HUGETLB = 4
MFD_HUGE_BITS = MFD_HUGETLB | 0x3F << HUGE_SHIFT
_MAP_NORESERVE, _MAP_HUGETLB = 0x4000, 0x40000


def _padded(size: int) -> int:
    return -(-size // PAGE) * PAGE


def dump(fd: int, entry: Message, ctx: DumpContext) -> None:
    """Write page map and pages of an inode. fd: opened for reading, for this alone; its offset moves."""
    ranges = _huge_ranges(fd, entry) if entry.hugetlb_flag else data_ranges(fd, entry.size)
    with ctx.sinks.open(_KIND, entry.shmid) as sink:
        sink.write((start, _padded(end - start) // PAGE, PRESENT) for start, end in ranges)
        for start, end in ranges:
            if entry.hugetlb_flag:
                for at in range(start, end, _huge_page(entry)):
                    sink.put(os.pread(fd, _huge_page(entry), at))
            else:
                sink.copy(fd, start, end - start)
            sink.skip(_padded(end - start) - (end - start))
            ctx.stats.shpages_written += _padded(end - start) // PAGE


def _huge_page(entry: Message) -> int:
    return 1 << int(entry.hugetlb_flag >> HUGE_SHIFT)


def _huge_ranges(fd: int, entry: Message) -> list[tuple[int, int]]:
    """The huge pages that are not zero."""
    size = _huge_page(entry)
    empty = bytes(size)
    return [(at, at + size) for at in range(0, entry.size, size) if os.pread(fd, size, at) != empty]


# Restore


def check(images: ImageDir, entry: Message) -> None:
    """Raises CrError when pages are missing or lie outside of the inode, or are to be huge but could not be."""
    _check_huge(images, entry)
    with PageReader(images, entry.shmid, _KIND) as pages:
        for vaddr, nr_pages, _, _ in pages.segments():
            if vaddr + nr_pages * PAGE > _padded(entry.size):
                where = images.path(_KIND, entry.shmid)
                raise CrError(f"{where}: a page at {vaddr:#x} is beyond the {entry.size} bytes (the image is damaged)")


def _check_huge(images: ImageDir, entry: Message) -> None:
    """Without a size of its pages they have the system's default one, which is no smaller than a small page's."""
    flags, page = entry.hugetlb_flag, max(_huge_page(entry), PAGE)
    if flags and (flags & ~MFD_HUGE_BITS or not flags & MFD_HUGETLB or entry.size % page):
        what = f"inode {entry.inode_id} of {entry.size} bytes can't have the huge pages of {flags:#x}"
        raise CrError(f"{images.path('MEMFD_INODE')}: {what} (the image is damaged)")


def make_anonymous(size: int, huge_shift: int) -> int:
    """Shared anonymous memory of `size` bytes: a descriptor of it (read, write). huge_shift: its page size, 0: small.

    MAP_NORESERVE: the tasks will reserve what they map.
    """
    size = _padded(max(size, 1))
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    if huge_shift:
        flags |= _MAP_HUGETLB | huge_shift << HUGE_SHIFT
    address = syscall(NR["mmap"], 0, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    try:
        return os.open(f"/proc/self/map_files/{address:x}-{address + size:x}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        syscall(NR["munmap"], address, size)


def restore(fd: int, entry: Message, images: ImageDir) -> None:
    """Fill an empty inode and give it its size."""
    with PageReader(images, entry.shmid, _KIND) as pages:
        if entry.hugetlb_flag:
            os.ftruncate(fd, entry.size)
            _fill_huge(fd, entry.size, pages)
        else:
            for vaddr, nr_pages, source, offset in pages.segments():
                copy_range(source, offset, fd, vaddr, nr_pages * PAGE)
            if os.fstat(fd).st_size != entry.size:
                os.ftruncate(fd, entry.size)


def _fill_huge(fd: int, size: int, pages: PageReader) -> None:
    if not size:
        return
    with mmap.mmap(fd, size) as area:
        for vaddr, nr_pages, source, offset in pages.segments():
            end = vaddr + nr_pages * PAGE
            with memoryview(area) as view:
                while vaddr < end:
                    done = os.preadv(source, [view[vaddr:end]], offset)
                    vaddr, offset = vaddr + done, offset + done
