"""/proc/PID/pagemap read entry by entry: what there is before PAGEMAP_SCAN. It costs 8 bytes of reading for every
page of a range, touched or not, and tells the same.

Bits of an entry: 63 present, 62 swapped, 61 page cache or shared, 58 guard (Linux 6.15), 57 write-protected by
userfaultfd, 56 mapped once, 55 soft-dirty, 0 to 54 the page frame number (0 without CAP_SYS_ADMIN).
Source: Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import os
import re
import sys
from array import array
from functools import cache

from engine.kernel.pagemap_scan import FILE, PAGE_SIZE, PRESENT, SOFT_DIRTY, SWAPPED, WRITTEN, PageRun

_CHUNK_PAGES = 1 << 16
_PFN = (1 << 55) - 1
_SAME = re.compile(rb"([^\0])\1*", re.DOTALL)


def read_runs(fd: int, start: int, end: int, file_pages: bool, report: int) -> list[PageRun]:
    """pagemap.page_runs() for one range, from an open pagemap."""
    runs: list[PageRun] = []
    for chunk in range(start, end, _CHUNK_PAGES * PAGE_SIZE):
        size = min(end - chunk, _CHUNK_PAGES * PAGE_SIZE) // PAGE_SIZE * 8
        for run in parse_entries(os.pread(fd, size, chunk // PAGE_SIZE * 8), chunk, file_pages, report):
            last = runs[-1] if runs else None
            if last and last.vaddr + last.nr_pages * PAGE_SIZE == run.vaddr and last.categories == run.categories:
                runs[-1] = PageRun(last.vaddr, last.nr_pages + run.nr_pages, run.categories)
            else:
                runs.append(run)
    return runs


def any_present(fd: int, start: int, end: int) -> bool:
    """Whether any page of a range is in memory, from an open pagemap."""
    for chunk in range(start, end, _CHUNK_PAGES * PAGE_SIZE):
        size = min(end - chunk, _CHUNK_PAGES * PAGE_SIZE) // PAGE_SIZE * 8
        if max(os.pread(fd, size, chunk // PAGE_SIZE * 8)[7::8], default=0) & 0x80:
            return True
    return False


def parse_entries(entries: bytes, vaddr: int, file_pages: bool, report: int) -> list[PageRun]:
    """Runs in consecutive entries of a pagemap, of which the first belongs to the page at vaddr.

    The highest byte of every entry becomes a byte of categories, 0 for none; a run is a row of equal bytes.
    """
    pages = bytearray(entries[7::8].translate(_categories(file_pages, report)))
    for first, last in _zero_pages(entries):
        pages[first:last] = bytes(last - first)
    if report & SOFT_DIRTY:
        dirty = entries[6::8]
        pages = bytearray(page and page | bits & SOFT_DIRTY for page, bits in zip(pages, dirty, strict=True))
    return [
        PageRun(vaddr + match.start() * PAGE_SIZE, match.end() - match.start(), match[1][0])
        for match in _SAME.finditer(pages)
    ]


@cache
def _categories(file_pages: bool, report: int) -> bytes:
    """For each highest byte of an entry: its categories, or 0 if the page is not to be stored."""
    report = report & WRITTEN | PRESENT | SWAPPED | (FILE if file_pages else 0)
    table = bytearray(256)
    for byte in range(256):
        present, swapped, file, guard, protected = (byte & bit for bit in (0x80, 0x40, 0x20, 0x04, 0x02))
        if (present or swapped) and not guard and (file_pages or not file):
            categories = (PRESENT if present else SWAPPED) | (FILE if file else 0) | (0 if protected else WRITTEN)
            table[byte] = categories & report
    return bytes(table)


def _zero_pages(entries: bytes) -> list[tuple[int, int]]:
    """(first, last + 1) indices of entries that are the zero page."""
    flags = [0, 1 << 57] if _zero_pfn() else []
    values = {1 << 63 | flag | dirty | _zero_pfn() for flag in flags for dirty in (0, 1 << 55)}
    if not any(value.to_bytes(8, sys.byteorder) in entries for value in values):
        return []
    is_zero = bytes(map(values.__contains__, array("Q", entries)))
    return [match.span() for match in re.finditer(rb"\x01+", is_zero)]


@cache
def _zero_pfn() -> int:
    """The page frame that stands for reads of untouched anonymous memory, 0 without CAP_SYS_ADMIN.

    The zero page of huge pages is another one. The kernel reports it as a page cache page here.
    """
    import ctypes
    import mmap

    with mmap.mmap(-1, PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0]  # a read, so that the zero page is mapped
        vaddr = ctypes.addressof(ctypes.c_char.from_buffer(page))
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            entry = os.pread(pagemap.fileno(), 8, vaddr // PAGE_SIZE * 8)
    return int.from_bytes(entry, sys.byteorder) & _PFN
