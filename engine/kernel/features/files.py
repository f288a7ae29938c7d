"""Probes for descriptors and what is behind them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from engine.kernel.features.child import CLONE_NEWNET, in_child
from engine.kernel.libc import NR, syscall

_TFD_IOC_SET_TICKS = 0x40085400
_KCMP_EPOLL_TFD = 7
_MREMAP_MAYMOVE = 1
_MFD_CLOEXEC, _MFD_HUGETLB = 1, 4
_TUNSETIFF, _TUNGETIFF, _SIOCGSKNS = 0x400454CA, 0x800454D2, 0x894C
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


def mnt_id() -> bool:
    """fdinfo tells the mount that a file was opened on (49d063cb353265, Linux 3.15)."""
    with open("/proc/self/status", "rb") as file:
        return "mnt_id:" in _fdinfo(file.fileno())


def fdinfo_lock() -> bool:
    """fdinfo tells the locks held through a descriptor (6c8c90319c0bb1, Linux 4.1)."""
    fd = os.memfd_create("probe")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return "lock:" in _fdinfo(fd)
    finally:
        os.close(fd)


def timerfd() -> bool:
    """fdinfo tells clock and ticks, and TFD_IOC_SET_TICKS sets them (5442e9fbd7c23, Linux 3.17)."""
    fd = syscall(NR["timerfd_create"], 1, 0)
    try:
        if "clockid:" not in _fdinfo(fd):
            return False
        fcntl.ioctl(fd, _TFD_IOC_SET_TICKS, struct.pack("Q", 1))
        return "ticks: 1" in _fdinfo(fd)
    finally:
        os.close(fd)


def kcmp_epoll() -> bool:
    """kcmp(KCMP_EPOLL_TFD) finds the file behind an epoll target (0791e3644e5ef2, Linux 4.13)."""
    import select

    target, writer = os.pipe()
    epoll = select.epoll()
    try:
        epoll.register(target, select.EPOLLIN)
        slot = struct.pack("III", epoll.fileno(), target, 0)
        pid = os.getpid()
        return syscall(NR["kcmp"], pid, pid, _KCMP_EPOLL_TFD, target, slot) == 0
    finally:
        epoll.close()
        os.close(target)
        os.close(writer)


def aio_remap() -> bool:
    """mremap(2) of an aio ring moves the context with it: its id is its address (e4a0d3e720e7e5, Linux 3.19)."""
    return in_child(_aio_follows_its_ring)


def _aio_follows_its_ring() -> bool:
    import ctypes

    context = ctypes.c_ulong(0)
    syscall(NR["io_setup"], 1, ctypes.byref(context))
    with open("/proc/self/maps", encoding="ascii") as maps:
        ranges = (line.split("-", 1) for line in maps)
        end = next(int(rest.split()[0], 16) for start, rest in ranges if int(start, 16) == context.value)
    length = end - context.value
    page = os.sysconf("SC_PAGESIZE")
    # Growing by a page is not allowed for a ring; a forced move to a fresh place is.
    place = syscall(NR["mmap"], 0, length + page, 0, 0x22, -1, 0)
    moved = syscall(NR["mremap"], context.value, length, length, _MREMAP_MAYMOVE | 2, place)
    events = ctypes.create_string_buffer(32)
    zero = struct.pack("qq", 0, 0)
    return syscall(NR["io_getevents"], moved, 0, 1, events, zero) == 0


def openat2() -> bool:
    """openat2(2) keeps a path inside a directory (fddb5d430ad9fa, Linux 5.6)."""
    resolve_in_root = 0x10
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, resolve_in_root)
    os.close(syscall(NR["openat2"], -100, b"/\0", how, len(how)))
    return True


def pidfd_store() -> bool:
    """pidfd_open(2) and pidfd_getfd(2): a task and its descriptors without a race over pids (Linux 5.6)."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        os.close(syscall(NR["pidfd_getfd"], pidfd, pidfd, 0))
        return True
    finally:
        os.close(pidfd)


def memfd_hugetlb() -> bool:
    """memfd_create(MFD_HUGETLB) (749df87bd7bee5, Linux 4.14)."""
    os.close(os.memfd_create("probe", _MFD_CLOEXEC | _MFD_HUGETLB))
    return True


def tun() -> bool:
    """/dev/net/tun makes a device and TUNGETIFF tells about it."""
    return in_child(lambda: _with_tun(_TUNGETIFF), CLONE_NEWNET)


def tun_ns() -> bool:
    """SIOCGSKNS on a tun descriptor gives the network namespace of its device (f2780d6d7475e9, Linux 5.1)."""
    return in_child(lambda: _with_tun(_SIOCGSKNS), CLONE_NEWNET)


def _with_tun(request: int) -> bool:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    ifreq = struct.pack("16sH22x", b"", _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(fd, _TUNSETIFF, ifreq)
    try:
        fcntl.ioctl(fd, request, bytes(40))
    except OSError as exc:
        if exc.errno in (errno.ENOTTY, errno.EINVAL):
            return False
        raise
    return True


def _fdinfo(fd: int) -> str:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return file.read()
