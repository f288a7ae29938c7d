"""PAGEMAP_SCAN: an ioctl on /proc/PID/pagemap that finds pages by their state (Linux 6.7).

Source: Documentation/admin-guide/mm/pagemap.rst, struct pm_scan_arg and struct page_region in include/uapi/linux/fs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from array import array
from functools import cache
from typing import NamedTuple

PAGE_SIZE = os.sysconf("SC_PAGESIZE")

WPALLOWED, WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO, HUGE, SOFT_DIRTY, GUARD = (1 << bit for bit in range(9))
"""Categories of pages (PAGE_IS_...)."""

PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC = 1, 2

_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_SCAN_ARG = struct.Struct("=12Q")
_FIRST_ROOM, _ROOM = 256, 16384
"""Runs that one call may return. Most tasks have few, and fresh memory costs more than the call."""


class PageRun(NamedTuple):
    """Pages in a row of the same categories. vaddr: of the first one."""

    vaddr: int
    nr_pages: int
    categories: int


def scan(fd: int, start: int, end: int, any_of: int, none_of: int, report: int, flags: int = 0) -> list[PageRun]:
    """The PAGEMAP_SCAN ioctl on an open pagemap: pages of [start, end) in any category of any_of and none of none_of.

    report  categories to tell; runs are split where they differ. flags: PM_SCAN_
    Raises OSError: ENOTTY before Linux 6.7, EINVAL for a category the kernel does not know.
    """
    room = _FIRST_ROOM
    vector = array("Q", bytes(24 * room))  # struct page_region: start, end, categories
    runs: list[PageRun] = []
    while True:
        argument = bytearray(
            _SCAN_ARG.pack(
                *(_SCAN_ARG.size, flags, start, end, 0),
                *(vector.buffer_info()[0], room, 0),
                *(none_of, none_of, any_of, report),  # category_inverted, category_mask: in none of these
            )
        )
        count = fcntl.ioctl(fd, _PAGEMAP_SCAN, argument)
        words = vector[: 3 * count]
        runs += [
            PageRun(first, (last - first) // PAGE_SIZE, categories)
            for first, last, categories in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]
        if count < room:
            return runs
        # Not from walk_end: do_pagemap_scan() (fs/proc/task_mmu.c) sets that whenever its own buffer of 512 runs is
        # full, and does not set it again when it then reaches the end. It can lie before runs already returned.
        start = words[-2]
        if room < _ROOM:
            room = _ROOM
            vector = array("Q", bytes(24 * room))


@cache
def can_scan() -> bool:
    """Whether the kernel has PAGEMAP_SCAN."""
    return _scan_knows(PRESENT)


@cache
def guard_category() -> int:
    """GUARD where the kernel knows the category, else 0."""
    return GUARD if _scan_knows(GUARD) else 0


@cache
def task_size() -> int:
    """The end of the largest address space a task can have here. Needs PAGEMAP_SCAN, which takes no address above."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for bits in (56, 52, 48, 47, 42, 39):  # arm64: the whole of it; x86: less one page
            for end in (1 << bits, (1 << bits) - PAGE_SIZE):
                try:
                    scan(fd, end - PAGE_SIZE, end, PRESENT, 0, PRESENT)
                except OSError as error:
                    if error.errno != errno.EFAULT:
                        raise
                else:
                    return end
    finally:
        os.close(fd)
    raise OSError(errno.EFAULT, "PAGEMAP_SCAN takes no address space")


def _scan_knows(category: int) -> bool:
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        scan(fd, 0, PAGE_SIZE, category, 0, category)
    except OSError as error:
        if error.errno not in {errno.ENOTTY, errno.EINVAL}:
            raise
        return False
    finally:
        os.close(fd)
    return True
