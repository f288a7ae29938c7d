"""What a program may need, `needs:` in its header, and how to find out whether it is there.

root                     user id 0 (the whole suite needs it: namespaces)
cap CAP_NAME             an effective capability
feature NAME             one of FEATURES, by a probe
file PATH                it exists
tool NAME                it is on PATH
arch NAME NAME...        the machine is one of these (as in uname -m)
module NAME              a Python module can be imported
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import mmap
import os
import platform
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()

SYS_KCMP, KCMP_EPOLL_TFD = 272 if platform.machine() == "aarch64" else 312, 7
SYS_IO_SETUP, SYS_IO_DESTROY = (0, 1) if platform.machine() == "aarch64" else (206, 207)
SIOCUNIXFILE = 0x89E0
MADV_GUARD_INSTALL = 102
MAP_DROPPABLE = 0x08
MAP_HUGETLB = 0x40000
TCP_REPAIR = 19
SO_BUF_LOCK = 72

_libc = ctypes.CDLL(None, use_errno=True)


def unmet(needs: tuple[str, ...]) -> str | None:
    """The first need that is not met, in words; None when all are. Raises ValueError for one nobody knows."""
    return next((f"needs {need}" for need in needs if not is_met(need)), None)


@cache
def is_met(need: str) -> bool:
    """Raises ValueError for an unknown need, so that a typo does not skip a program for ever."""
    kind, _, argument = need.partition(" ")
    if kind not in KINDS or (kind == "root") != (not argument):
        raise ValueError(f'unknown need "{need}", see zdtm/harness/needs.py')
    return KINDS[kind](argument)


def _capability(name: str) -> bool:
    number = CAPABILITIES.index(name.removeprefix("CAP_"))
    effective = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> number & 1)


def _feature(name: str) -> bool:
    if name not in FEATURES:
        raise ValueError(f'unknown feature "{name}", see zdtm/harness/needs.py')
    return FEATURES[name]()


def _works(probe: Callable[[], object]) -> bool:
    try:
        probe()
    except OSError:
        return False
    return True


def _socket_option(family: int, level: int, option: int) -> Callable[[], bool]:
    """Whether sockets have an option, by setting it to 1."""

    def probe() -> bool:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            return _works(lambda: sock.setsockopt(level, option, 1))

    return probe


def _fdinfo_lock() -> bool:
    with tempfile.TemporaryFile() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return "lock:" in Path(f"/proc/self/fdinfo/{file.fileno()}").read_text()


def _kcmp_epoll() -> bool:
    """The kernel without it says EINVAL or EOPNOTSUPP before it looks at the arguments, the others EFAULT."""
    _libc.syscall(SYS_KCMP, os.getpid(), os.getpid(), KCMP_EPOLL_TFD, 0, 0)
    return os.strerror(ctypes.get_errno()) == os.strerror(14)


def _sk_unix_file() -> bool:
    """A socket that is bound to no file: ENOENT. A kernel that does not know the request: EINVAL or ENOTTY."""
    with socket.socket(socket.AF_UNIX) as unbound:
        try:
            os.close(fcntl.ioctl(unbound, SIOCUNIXFILE))
        except OSError as problem:
            return problem.errno == 2
    return True


def _guard_pages() -> bool:
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        return _works(lambda: area.madvise(MADV_GUARD_INSTALL, 0, mmap.PAGESIZE))


def _droppable() -> bool:
    """MAP_DROPPABLE, since Linux 6.11."""
    return _works(lambda: mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_ANONYMOUS | MAP_DROPPABLE).close())


def _huge_pages() -> bool:
    """Free ones, or some that the kernel would make: a mapping has its pages set aside."""
    size = re.search(r"^Hugepagesize:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB
    return size is not None and _works(lambda: mmap.mmap(-1, int(size[1]) * 1024, flags=flags).close())


def _aio() -> bool:
    context = ctypes.c_ulong()
    if _libc.syscall(SYS_IO_SETUP, 1, ctypes.byref(context)) < 0:
        return False
    _libc.syscall(SYS_IO_DESTROY, context)
    return True


def _pidfs() -> bool:
    """Since Linux 6.9 pidfds have a file system of their own, so those of different tasks are different inodes."""
    one, other = os.pidfd_open(os.getpid()), os.pidfd_open(1)
    try:
        return not os.path.samestat(os.fstat(one), os.fstat(other))
    finally:
        os.close(one)
        os.close(other)


def _eventfd_semaphore() -> bool:
    """fdinfo tells semaphores from counters since Linux 6.5."""
    descriptor = os.eventfd(0)
    try:
        return "eventfd-semaphore" in Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)


def _timerfd() -> bool:
    """fdinfo tells how a timerfd is set since Linux 3.17."""
    descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
    if descriptor < 0:
        return False
    try:
        return "it_value" in Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)


def _has_ipv6() -> bool:
    return _works(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close())


def _exists(path: str) -> Callable[[], bool]:
    return lambda: Path(path).exists()


FEATURES: dict[str, Callable[[], bool]] = {
    "aio_remap": _aio,
    "eventfd_semaphore": _eventfd_semaphore,
    "autofs": _exists("/dev/autofs"),
    "fdinfo_lock": _fdinfo_lock,
    "pagemap_scan_guard_pages": _guard_pages,
    "huge_pages": _huge_pages,
    "ipv6": _has_ipv6,
    "kcmp_epoll": _kcmp_epoll,
    "loginuid": _exists("/proc/self/loginuid"),
    "map_droppable": _droppable,
    "map_files": _exists("/proc/self/map_files"),
    "memfd_hugetlb": _huge_pages,
    "ns_pid": lambda: "NSpid:" in Path("/proc/self/status").read_text(),
    "pidfd_store": _pidfs,
    "pidfs": _pidfs,
    "seccomp_filters": _exists("/proc/sys/kernel/seccomp/actions_avail"),
    "sk_unix_file": _sk_unix_file,
    "sockopt_buf_lock": _socket_option(socket.AF_INET, socket.SOL_SOCKET, SO_BUF_LOCK),
    "tcp_repair": _socket_option(socket.AF_INET, socket.IPPROTO_TCP, TCP_REPAIR),
    "timens": _exists("/proc/self/ns/time"),
    "timerfd": _timerfd,
    "tun": _exists("/dev/net/tun"),
    "uprobes": _exists("/sys/bus/event_source/devices/uprobe/type"),
    "userfaultfd": _exists("/dev/userfaultfd"),
}

KINDS: dict[str, Callable[[str], bool]] = {
    "root": lambda _: os.geteuid() == 0,
    "cap": _capability,
    "feature": _feature,
    "file": lambda path: Path(path).exists(),
    "tool": lambda name: shutil.which(name) is not None,
    "arch": lambda names: platform.machine() in names.split(),
    "module": lambda name: importlib.util.find_spec(name) is not None,
}
