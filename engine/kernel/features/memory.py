"""Probes for memory: what changed, faults handled by user space, the vDSO."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from functools import cache

from engine.kernel.features.child import in_child
from engine.kernel.libc import MACHINE, NR, address, syscall
from engine.kernel.pagemap_scan import can_scan, guard_category

_UFFDIO_API = 0xC018AA3F  # _IOWR(0xAA, 0x3F, struct uffdio_api)
_UFFD_API = 0xAA
_UFFD_EVENT_FORK, _UFFD_EVENT_REMAP, _UFFD_EVENT_REMOVE, _UFFD_EVENT_UNMAP = 1 << 1, 1 << 2, 1 << 3, 1 << 6
_UFFD_WP_UNPOPULATED, _UFFD_WP_ASYNC = 1 << 13, 1 << 15
_SOFT_DIRTY_BIT = 1 << 55
_ARCH_MAP_VDSO_32, _ARCH_MAP_VDSO_64 = 0x2002, 0x2003


def mem_dirty_track() -> bool:
    """Some way to learn which pages changed: soft-dirty bits, or asynchronous write protection."""
    return soft_dirty() or wp_async()


@cache
def soft_dirty() -> bool:
    """Soft-dirty bits in pagemap (CONFIG_MEM_SOFT_DIRTY, 0f8975ec4db2c8, Linux 3.11; x86 and a few others)."""
    return in_child(_a_write_sets_soft_dirty)


def _a_write_sets_soft_dirty() -> bool:
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page[0] = 1
    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear_refs:
        clear_refs.write("4")
    before = _is_soft_dirty(page)
    page[0] = 2
    return not before and _is_soft_dirty(page)


def _is_soft_dirty(page: object) -> bool:
    import ctypes

    number = ctypes.addressof(ctypes.c_char.from_buffer(page)) // os.sysconf("SC_PAGESIZE")  # type: ignore[arg-type]
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    entry: int = struct.unpack("Q", os.pread(fd, 8, number * 8))[0]
    os.close(fd)
    return bool(entry & _SOFT_DIRTY_BIT)


@cache
def wp_async() -> bool:
    """Userfaultfd write protection that the kernel resolves itself and PAGEMAP_SCAN reports (Linux 6.7)."""
    return can_scan() and _userfaultfd(_UFFD_WP_ASYNC | _UFFD_WP_UNPOPULATED)


def uffd() -> bool:
    """userfaultfd(2) (Linux 4.3)."""
    return _userfaultfd(0)


def uffd_noncoop() -> bool:
    """Userfaultfd tells of forks and of changes of the memory map (Linux 4.11)."""
    return _userfaultfd(_UFFD_EVENT_FORK | _UFFD_EVENT_REMAP | _UFFD_EVENT_REMOVE | _UFFD_EVENT_UNMAP)


def _userfaultfd(features: int) -> bool:
    """Whether a userfaultfd can be had with all of these features; the kernel answers EINVAL to one it lacks."""
    fd = syscall(NR["userfaultfd"], os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("QQQ", _UFFD_API, features, 0)))
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.close(fd)
    return True


def pagemap_scan() -> bool:
    """The PAGEMAP_SCAN ioctl (52526ca7fdb905, Linux 6.7)."""
    return can_scan()


def pagemap_scan_guard_pages() -> bool:
    """PAGEMAP_SCAN tells guard pages from others (PAGE_IS_GUARD, Linux 6.15)."""
    return guard_category() != 0


def can_map_vdso() -> bool:
    """arch_prctl(ARCH_MAP_VDSO_64) maps another vDSO (2eefd878964 and following, Linux 4.8; x86 only)."""
    return _maps_vdso(_ARCH_MAP_VDSO_64)


def compat_cr() -> bool:
    """What 32-bit tasks need: their vDSO by arch_prctl, and a kernel that runs them (IA32_EMULATION; x86 only)."""
    return _maps_vdso(_ARCH_MAP_VDSO_32)


def _maps_vdso(request: int) -> bool:
    """A task that has a vDSO is refused another with EEXIST; a kernel without the request answers EINVAL."""
    if MACHINE != "x86_64":
        return False
    space = bytearray(1)
    try:
        in_child(lambda: syscall(NR["arch_prctl"], request, address(space)) >= 0)
    except OSError as exc:
        return exc.errno == errno.EEXIST
    return True
