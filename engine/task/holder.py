"""The process that keeps userfaultfds open between two rounds of incremental dumps. See watch.py.

It has nothing to do but to be there, and ends with the last of the tasks; or with the engine, if that dies before the
images that name it are complete.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from engine.kernel import userfaultfd
from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_SET_NAME
from engine.kernel.proc_fdinfo import fdinfo_pidfd, read_fdinfo
from engine.kernel.proc_stat import read_stat
from engine.kernel.procfs import listdir, read_comm, readlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Message = Any

_NAME = b"crucible-watch"


class Holder:
    """One of this or of an earlier round."""

    def __init__(self, pidfd: int, numbers: dict[int, int]) -> None:
        """numbers: its userfaultfds, by the pids of the tasks."""
        self._pidfd = pidfd
        self._numbers = numbers

    def take(self) -> dict[int, int]:
        """Descriptors of our own for what it holds, by the pid of the task. It still has them, too."""
        taken = {}
        for task, number in self._numbers.items():
            with contextlib.suppress(OSError):
                fd = syscall(NR["pidfd_getfd"], self._pidfd, number, 0)
                if userfaultfd.is_one(fd):
                    taken[task] = fd
                else:
                    os.close(fd)
        return taken

    def end(self) -> None:
        """Have it gone before this returns."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        _poll([self._pidfd]).poll()
        self.close()

    def close(self) -> None:
        """It lives on."""
        os.close(self._pidfd)


class NewHolder(Holder):
    """confirms: the pipe on which it waits to be told to stay."""

    def __init__(self, pidfd: int, numbers: dict[int, int], confirms: int) -> None:
        super().__init__(pidfd, numbers)
        self._confirms = confirms

    def end(self) -> None:
        super().end()
        os.close(self._confirms)

    def confirm(self) -> None:
        """The images are complete: it is to live longer than the engine. If something has killed it, the next round
        finds that out."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._confirms, b"+")
        os.close(self._confirms)
        self.close()


def find(entry: Message) -> Holder | None:
    """The holder of a memory_watch_entry, unless it has gone. Images name it: it is looked at before it is believed."""
    try:
        pidfd = os.pidfd_open(entry.pid)
        stat = read_stat(entry.pid)
    except OSError:
        return None
    if (stat.comm, stat.starttime) != (_NAME.decode(), entry.starttime) or len(entry.tasks) != len(entry.fds):
        os.close(pidfd)
        return None
    return Holder(pidfd, dict(zip(entry.tasks, entry.fds, strict=True)))


def others() -> list[tuple[set[int], Holder]]:
    """All of this user's, each with the pids of the tasks that it is for."""
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if read_comm(pid) == _NAME.decode() and os.stat(f"/proc/{pid}").st_uid == os.getuid():
                found.append((_tasks_of(pid), Holder(os.pidfd_open(pid), {})))
    return found


def _tasks_of(pid: int) -> set[int]:
    """The processes that it has pidfds of; none if it has no userfaultfd."""
    links = {int(fd): readlink(pid, f"fd/{fd}") for fd in listdir(pid, "fd")}
    if "anon_inode:[userfaultfd]" not in links.values():
        return set()
    return {fdinfo_pidfd(read_fdinfo(pid, fd)).pid for fd, link in links.items() if link.endswith(":[pidfd]")}


def start(fds: dict[int, int], entry: Message) -> NewHolder:
    """Fork a holder of these descriptors, which are for the tasks of these pids, and describe it."""
    ready, says_ready = os.pipe()
    confirmed, confirms = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _hold(fds, confirmed)
        finally:
            os._exit(0)
    os.close(says_ready)
    os.close(confirmed)
    os.read(ready, 1)
    os.close(ready)
    entry.pid = pid
    entry.starttime = read_stat(pid).starttime
    entry.tasks.extend(fds)
    entry.fds.extend(fds.values())
    return NewHolder(os.pidfd_open(pid), fds, confirms)


def _hold(fds: dict[int, int], confirmed: int) -> None:
    """In the new process: keep nothing else of the engine, its end of the pipe included; wait for the tasks' end."""
    os.setsid()
    os.chdir("/")
    syscall(NR["prctl"], PR_SET_NAME, _NAME + b"\0")
    waiting = set(_open_living(fds))
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    keep = sorted({0, 1, 2, *fds.values(), *waiting, confirmed})
    for low, high in zip(keep, [*keep[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
    if not os.read(confirmed, 1):
        return
    while waiting:
        waiting -= {pidfd for pidfd, _ in _poll(waiting).poll()}


def _open_living(pids: Iterable[int]) -> Iterator[int]:
    """Pidfds. The tree runs, and some of it may have ended and been reaped by now."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            yield os.pidfd_open(pid)


def _poll(pidfds: Iterable[int]) -> select.poll:
    """Waits for one of these processes to end."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    return poll
