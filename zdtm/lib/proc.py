"""What /proc says about a task or a descriptor, as plain values."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
from typing import NamedTuple

KCMP = {"x86_64": 312, "aarch64": 272}
KCMP_FILE = 0


class Stat(NamedTuple):
    """The first fields of /proc/PID/stat, see proc_pid_stat(5)."""

    comm: str
    state: str
    ppid: int
    pgid: int
    sid: int


class Family(NamedTuple):
    """Where a task belongs. Unlike its state, this does not change while it waits."""

    ppid: int
    pgid: int
    sid: int


def stat(pid: int) -> Stat:
    """The name may hold spaces and brackets, so it ends at the last bracket."""
    with open(f"/proc/{pid}/stat") as file:
        before, _, after = file.read().rpartition(") ")
    state, ppid, pgid, sid = after.split()[:4]
    return Stat(before.partition("(")[2], state, int(ppid), int(pgid), int(sid))


def family(pid: int) -> Family:
    return Family(*stat(pid)[2:])


def status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status, "PID/task/TID" gives a thread's: field -> value."""
    with open(f"/proc/{pid}/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def children(pid: int) -> list[int]:
    """Those of its main thread, zombies included."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def fdinfo(fd: int) -> dict[str, str]:
    """/proc/self/fdinfo/FD: field -> value. Of a field that is repeated (tfd), the last one."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in fdinfo_lines(fd))}


def fdinfo_lines(fd: int) -> list[str]:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        return file.read().splitlines()


def locks(fd: int) -> list[str]:
    """Locks and leases of a descriptor: kind, type, owner's pid, device and inode, range. Without their numbers."""
    lines = (line.split() for line in fdinfo_lines(fd) if line.startswith("lock:"))
    return sorted(" ".join(words[2:]) for words in lines)


def open_fds() -> list[int]:
    """The numbers of all open descriptors. The one that was used to look is closed again by the time it is tested."""
    return sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd))


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def same_description(fd1: int, fd2: int) -> bool:
    """Two descriptors of this task refer to one open file description, by kcmp(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    me = os.getpid()
    order: int = libc.syscall(KCMP[platform.machine()], me, me, KCMP_FILE, ctypes.c_ulong(fd1), ctypes.c_ulong(fd2))
    if order < 0:
        raise OSError(ctypes.get_errno(), "kcmp")
    return order == 0
