"""The kernel's interfaces the oracle needs. It shares none of the engine's: a judge must not repeat its mistakes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import platform
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

SYS_KCMP = 272 if platform.machine() == "aarch64" else 312
SYS_PIDFD_GETFD = 438

KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM = range(7)

PAGEMAP_SCAN = 0xC0606610
PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5
REGIONS_A_CALL = 512
PAGEMAP_WORDS_A_READ = 1 << 16
PAGE = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *args: int) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def kcmp(pid1: int, pid2: int, what: int, index1: int = 0, index2: int = 0) -> int:
    """-1, 0 or 1: the order of two kernel objects, which is arbitrary but total. kcmp(2)"""
    return (0, -1, 1)[_syscall(SYS_KCMP, pid1, pid2, what, index1, index2)]


def first_of_same(items: Iterable[T], compare: Callable[[T, T], int]) -> dict[T, T]:
    """Map each item to the first one, in the order given, that is the same object. n log n comparisons."""
    order = {item: index for index, item in enumerate(items)}
    first: dict[T, T] = {}
    same: list[T] = []
    for item in sorted(order, key=functools.cmp_to_key(compare)):
        if same and compare(same[0], item) != 0:
            same = []
        same.append(item)
        for member in same:
            first[member] = min(same, key=order.__getitem__)
    return first


def open_thread(tid: int) -> int:
    """A pidfd of a process, or of a thread that is not a leader. Linux 6.9, PIDFD_THREAD"""
    try:
        return os.pidfd_open(tid)
    except OSError:
        return os.pidfd_open(tid, os.O_EXCL)


def take_fd(pidfd: int, fd: int) -> int:
    """A copy of another process's descriptor. pidfd_getfd(2)"""
    return _syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)


class _ScanArg(ctypes.Structure):
    """struct pm_scan_arg, include/uapi/linux/fs.h"""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "size",
            "flags",
            "start",
            "end",
            "walk_end",
            "vec",
            "vec_len",
            "max_pages",
            "category_inverted",
            "category_mask",
            "category_anyof_mask",
            "return_mask",
        )
    ]


class _Region(ctypes.Structure):
    """struct page_region"""

    _fields_ = [("start", ctypes.c_uint64), ("end", ctypes.c_uint64), ("categories", ctypes.c_uint64)]


def anonymous_pages(pid: int, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of the address ranges [start, end) where the task has pages of its own: not file, maybe zero.

    By PAGEMAP_SCAN (Linux 6.7, commit 52526ca7fdb9), which skips the holes of a sparse mapping by itself; by the
    words of /proc/PID/pagemap on older kernels.
    """
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        for start, end in ranges:
            try:
                yield from _scan(fd, start, end)
            except OSError as problem:
                if problem.errno != errno.ENOTTY:
                    raise
                yield from _read_pagemap(fd, start, end)
    finally:
        os.close(fd)


def _scan(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    regions = (_Region * REGIONS_A_CALL)()
    while start < end:
        arg = _ScanArg(size=ctypes.sizeof(_ScanArg), start=start, end=end)
        arg.vec, arg.vec_len = ctypes.addressof(regions), REGIONS_A_CALL
        # Inverted: a page that is file or zero fails the mask.
        arg.category_inverted = arg.category_mask = PAGE_IS_FILE | PAGE_IS_PFNZERO
        arg.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
        arg.return_mask = PAGE_IS_PRESENT
        count = fcntl.ioctl(fd, PAGEMAP_SCAN, arg)
        yield from ((region.start, region.end) for region in regions[:count])
        start = arg.walk_end


def _read_pagemap(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Documentation/admin-guide/mm/pagemap.rst: bit 63 present, 62 swapped, 61 file page or shared anonymous."""
    step = PAGEMAP_WORDS_A_READ * PAGE
    for chunk in range(start, end, step):
        count = min(step, end - chunk) // PAGE
        data = os.pread(fd, 8 * count, chunk // PAGE * 8)
        if not data.strip(b"\0"):
            continue
        for index, (word,) in enumerate(struct.iter_unpack("Q", data)):
            if word >> 62 and not word >> 61 & 1:
                yield chunk + index * PAGE, chunk + (index + 1) * PAGE
