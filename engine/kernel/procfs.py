"""/proc/PID: how its files are read, and those that need no more than a line or two of parsing.

Files with more in them have a module each: proc_stat, proc_status, proc_maps, proc_fdinfo, proc_locks,
proc_mountinfo. Pids and tids are those of the pid namespace that /proc was mounted for: the engine's own.

Errors: a task that is gone raises ProcessLookupError, whether the kernel said ENOENT (at open) or ESRCH (at read).
FileNotFoundError is left to mean that the task is there and the file is not: a closed descriptor, or a kernel
built without the feature. Text is decoded as Python decodes file names (os.fsdecode), so that any byte survives.
"""

from __future__ import annotations

import errno
import os
from array import array
from typing import NamedTuple, NoReturn

RLIM_INFINITY = 2**64 - 1
LOGINUID_UNSET = 2**32 - 1

_CHUNK = 1 << 16


def read(pid: int, name: str) -> bytes:
    """All of /proc/PID/name. name may lie below task/TID."""
    path = f"/proc/{pid}/{name}"
    chunks = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A seq_file hands out whole records, about a page of them for a read(2) however large the buffer is:
            # only an empty read is the end.
            while chunk := os.read(fd, _CHUNK):
                chunks.append(chunk)
        finally:
            os.close(fd)
    except OSError as error:
        raise_missing(path, error)
    return b"".join(chunks)


def readlink(pid: int, name: str) -> str:
    """Where /proc/PID/name points to: "/usr/bin/sleep", "socket:[1234]"."""
    path = f"/proc/{pid}/{name}"
    try:
        return os.readlink(path)
    except OSError as error:
        raise_missing(path, error)


def listdir(pid: int, name: str) -> list[str]:
    """The names in the directory /proc/PID/name, in the kernel's order."""
    path = f"/proc/{pid}/{name}"
    try:
        return os.listdir(path)
    except OSError as error:
        raise_missing(path, error)


def raise_missing(path: str, error: OSError) -> NoReturn:
    """Raise what `error`, met at `path` below /proc/PID, stands for: ProcessLookupError if the task is gone."""
    if error.errno == errno.ENOENT:
        parts = path.split("/")  # "", "proc", PID, and maybe "task", TID
        depth = 5 if parts[3:4] == ["task"] and len(parts) > 4 else 3
        gone = not os.path.exists("/".join(parts[:depth]))
    else:
        gone = error.errno == errno.ESRCH
    if gone:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), path) from None
    raise error


def list_fds(pid: int) -> list[int]:
    """Open descriptors, ascending. A zombie has none."""
    return sorted(map(int, listdir(pid, "fd")))


def list_tids(pid: int) -> list[int]:
    """Threads, ascending in their numbers; the leader (tid == pid) is listed even when it has exited before them."""
    return sorted(map(int, listdir(pid, "task")))


def children(pid: int) -> list[int]:
    """Children of all threads of pid, zombies among them, ascending.

    Complete only while the children are stopped or otherwise kept from exiting: proc_pid_children(5) says why.
    """
    found: list[int] = []
    for tid in list_tids(pid):
        try:
            found += map(int, read(pid, f"task/{tid}/children").split())
        except ProcessLookupError:  # a thread that was exiting: its children are another's now
            continue
        except FileNotFoundError:  # built without CONFIG_PROC_CHILDREN
            return _children_by_ppid(pid)
    return sorted(found)


def _children_by_ppid(pid: int) -> list[int]:
    from engine.kernel.proc_stat import read_stat

    if not os.path.exists(f"/proc/{pid}"):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{pid}")
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if read_stat(int(name)).ppid == pid:
                    found.append(int(name))
            except ProcessLookupError:
                continue
    return sorted(found)


class Limit(NamedTuple):
    """One resource limit; RLIM_INFINITY where the file says "unlimited"."""

    soft: int
    hard: int


def read_limits(pid: int) -> list[Limit]:
    """The 16 resource limits in the kernel's RLIMIT_ order, CPU to RTTIME (proc_pid_limits(5): fixed columns)."""
    return [
        Limit(_limit(line[26:46]), _limit(line[47:67]))
        for line in read(pid, "limits").splitlines()[1:]
    ]


def _limit(column: bytes) -> int:
    value = column.strip()
    return RLIM_INFINITY if value == b"unlimited" else int(value)


class PosixTimer(NamedTuple):
    """One item of /proc/PID/timers (CONFIG_POSIX_TIMERS with CONFIG_CHECKPOINT_RESTORE).

    value      sigev_value of the notification, a word
    notify     "signal", "none" or "thread"
    thread     notify_target is a tid (SIGEV_THREAD_ID), else the pid of the process
    clockid    negative for a CPU-time clock of some task
    """

    id: int
    signal: int
    value: int
    notify: str
    thread: bool
    notify_target: int
    clockid: int


def read_timers(pid: int) -> list[PosixTimer]:
    """POSIX timers of the process, in the order the kernel lists them."""
    timers = []
    lines = iter(read(pid, "timers").decode("ascii").splitlines())
    for line in lines:
        number = int(line.removeprefix("ID: "))
        signal, _, value = next(lines).removeprefix("signal: ").partition("/")
        notify, _, target = next(lines).removeprefix("notify: ").partition("/")
        kind, _, target_id = target.partition(".")
        clockid = int(next(lines).removeprefix("ClockID: "))
        timers.append(PosixTimer(number, int(signal), int(value, 16), notify, kind == "tid", int(target_id), clockid))
    return timers


def read_auxv(pid: int) -> list[int]:
    """The auxiliary vector as flat words: key, value, key, value, ... up to and with the closing AT_NULL pair."""
    return array("Q", read(pid, "auxv")).tolist()


def read_comm(pid: int, tid: int | None = None) -> str:
    """Name of the thread (the leader by default), 15 bytes at most, any byte but NUL."""
    return os.fsdecode(read(pid, f"task/{tid or pid}/comm")[:-1])


def read_oom_score_adj(pid: int) -> int:
    return int(read(pid, "oom_score_adj"))


def read_loginuid(pid: int) -> int | None:
    """Audit login uid, LOGINUID_UNSET if never set; None where the kernel has no audit."""
    try:
        return int(read(pid, "loginuid"))
    except FileNotFoundError:
        return None


def read_personality(pid: int, tid: int | None = None) -> int:
    """personality(2): execution domain and flags such as ADDR_NO_RANDOMIZE."""
    return int(read(pid, f"task/{tid or pid}/personality"), 16)


class Cgroup(NamedTuple):
    """Membership in one hierarchy. Version 2: hierarchy 0 without controllers. Named version 1: ["name=systemd"].

    path   seen from the root of the engine's cgroup namespace, "/../x" above it
    """

    hierarchy: int
    controllers: list[str]
    path: str


def read_cgroups(pid: int, tid: int | None = None) -> list[Cgroup]:
    """Memberships of a thread (threads of a process may differ), in the kernel's order."""
    groups = []
    for line in os.fsdecode(read(pid, f"task/{tid or pid}/cgroup")).splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        groups.append(Cgroup(int(hierarchy), controllers.split(",") if controllers else [], path))
    return groups


def read_cgroup_members(directory: str) -> set[int]:
    """Processes in a control group and in those below it, by the group's directory. Raises OSError."""
    members: set[int] = set()
    for path, _, _ in os.walk(directory):
        with open(f"{path}/cgroup.procs") as file:
            members.update(map(int, file.read().split()))
    return members


def namespace_ids(pid: int, tid: int | None = None) -> dict[str, int]:
    """Inode number of every namespace by its name in /proc/PID/ns, "pid_for_children" and so on among them.

    A name is missing when the kernel lacks the kind, when the task is a zombie, or, for pid_for_children, between
    unshare(CLONE_NEWPID) and the first fork: the namespace has no init then (namespaces(7)).
    """
    ids = {}
    for name in listdir(pid, f"task/{tid or pid}/ns"):
        try:
            target = readlink(pid, f"task/{tid or pid}/ns/{name}")  # "mnt:[4026531841]"
        except FileNotFoundError:
            continue
        ids[name] = int(target[target.index("[") + 1 : -1])
    return ids
