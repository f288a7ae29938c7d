"""Which pages of a task have content of their own: PAGEMAP_SCAN (Linux 6.7), else /proc/PID/pagemap.

A page that nobody has touched, the shared zero page and a page of the page cache need not be stored: mapping the same
thing again brings them back. What is left is present or swapped, and anonymous.

    private, anonymous   touched by a write
    private, of a file   copied on write
    shared               never: these pages belong to the file (or to shmem), not to the task. file_pages=True shows
                         those that the task's page tables have, which need not be all that the file has.

Two kernel objects answer to nothing else than being "swapped": a guard region (MADV_GUARD_INSTALL, Linux 6.13), which
only Linux 6.15 can tell apart, and the write-protection marker of an untouched page under userfaultfd. Reading the
first raises SIGSEGV in the task and EFAULT for us; reading the second gives zeros or the file's content.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from engine.kernel.pagemap_scan import (
    FILE,
    GUARD,
    PAGE_SIZE,
    PFNZERO,
    PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING,
    PRESENT,
    SWAPPED,
    WRITTEN,
    PageRun,
    can_scan,
    guard_category,
    scan,
    task_size,
)
from engine.kernel.procfs import raise_missing

if TYPE_CHECKING:
    from collections.abc import Iterable


def page_runs(
    pid: int, ranges: Iterable[tuple[int, int]], file_pages: bool = False, report: int = 0
) -> list[PageRun]:
    """Pages to store in ranges of (start, end) addresses, which are ascending and don't overlap.

    file_pages  pages of the page cache too
    report      categories besides PRESENT, SWAPPED and FILE to tell (and to split runs by): WRITTEN, SOFT_DIRTY
    A run never goes beyond its range. Raises ProcessLookupError if the task is gone.

    PAGEMAP_SCAN goes from the first address to the last in one call, so that it pays to ask for all mappings at once.
    The fallback reads eight bytes for every page of every range, touched or not: leave out mappings that are not
    Vma.populated.
    """
    ranges = list(ranges)
    if not ranges:
        return []
    fd = _open_pagemap(pid)
    try:
        if not can_scan():
            from engine.kernel.pagemap_entries import read_runs

            return [run for start, end in ranges for run in read_runs(fd, start, end, file_pages, report)]
        unwanted = PFNZERO | guard_category() | (0 if file_pages else FILE)
        report |= PRESENT | SWAPPED | (FILE if file_pages else 0)
        return _clip(scan(fd, ranges[0][0], ranges[-1][1], PRESENT | SWAPPED, unwanted, report), ranges)
    finally:
        os.close(fd)


def private_pages(pid: int) -> list[tuple[int, int]]:
    """(start, end) of all pages in the task's address space with content of their own, ascending."""
    from engine.kernel.proc_maps import read_smaps

    if can_scan():
        ranges = [(0, task_size())]
    else:
        ranges = [(vma.start, vma.end) for vma in read_smaps(pid) if vma.populated and not vma.shared]
    return [(run.vaddr, run.vaddr + run.nr_pages * PAGE_SIZE) for run in page_runs(pid, ranges)]


def guard_regions(pid: int, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) of guard regions in ascending ranges, none of them reaching beyond its range.

    Empty before Linux 6.15, whether there are any or not.
    """
    ranges = list(ranges)
    if not ranges or not guard_category():
        return []
    fd = _open_pagemap(pid)
    try:
        runs = _clip(scan(fd, ranges[0][0], ranges[-1][1], GUARD, 0, GUARD), ranges)
    finally:
        os.close(fd)
    return [(run.vaddr, run.vaddr + run.nr_pages * PAGE_SIZE) for run in runs]


def populated(pid: int, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of ascending ranges that have a page in memory, be it one of zeros because somebody has read there."""
    fd = _open_pagemap(pid)
    try:
        if can_scan():
            return [place for place in ranges if scan(fd, *place, PRESENT, 0, PRESENT)]
        from engine.kernel.pagemap_entries import any_present

        return [place for place in ranges if any_present(fd, *place)]
    finally:
        os.close(fd)


def protect_pages(pid: int, ranges: Iterable[tuple[int, int]]) -> None:
    """Write-protect the pages with content of their own in ascending ranges, each of which is registered with a
    userfaultfd in asynchronous mode. Needs PAGEMAP_SCAN. Raises OSError: EPERM when one is not."""
    unwanted = PFNZERO | FILE | guard_category()
    fd = _open_pagemap(pid)
    try:
        for start, end in ranges:
            scan(fd, start, end, PRESENT | SWAPPED, unwanted, WRITTEN, PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC)
    finally:
        os.close(fd)


def _clip(runs: list[PageRun], ranges: list[tuple[int, int]]) -> list[PageRun]:
    """The parts of runs that lie in ranges. Both are ascending."""
    clipped: list[PageRun] = []
    index = 0
    for run in runs:
        first, last = run.vaddr, run.vaddr + run.nr_pages * PAGE_SIZE
        while index < len(ranges):
            start, end = ranges[index]
            low, high = max(first, start), min(last, end)
            if low < high:
                clipped.append(PageRun(low, (high - low) // PAGE_SIZE, run.categories))
            if end > last:
                break
            index += 1
    return clipped


def _open_pagemap(pid: int) -> int:
    """Raises ProcessLookupError as well for a task that has no memory any more (a zombie): the PAGEMAP_SCAN of kernels
    before 6.15 follows a null pointer there, while reading is safe and gives nothing."""
    path = f"/proc/{pid}/pagemap"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise_missing(path, error)
    if not os.pread(fd, 8, 0):
        os.close(fd)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), path)
    return fd
