"""The process that keeps userfaultfds open between two rounds of incremental dumps. See watch.py.

It has nothing to do but to be there, and ends with the last of the tasks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from engine.kernel import userfaultfd
from engine.kernel.libc import NR, syscall
from engine.kernel.proc_stat import read_stat

if TYPE_CHECKING:
    from collections.abc import Iterable

    Message = Any

_NAME = b"crucible-watch"
_PR_SET_NAME = 15


class Holder:
    """One that was found. Images name it, so it is looked at before it is believed."""

    def __init__(self, pid: int, pidfd: int, numbers: dict[int, int]) -> None:
        self._pid = pid
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
        os.close(self._pidfd)


def find(entry: Message) -> Holder | None:
    """The holder of a memory_watch_entry, unless it has gone."""
    try:
        pidfd = os.pidfd_open(entry.pid)
        stat = read_stat(entry.pid)
    except OSError:
        return None
    if (stat.comm, stat.starttime) != (_NAME.decode(), entry.starttime) or len(entry.tasks) != len(entry.fds):
        os.close(pidfd)
        return None
    return Holder(entry.pid, pidfd, dict(zip(entry.tasks, entry.fds, strict=True)))


def start(fds: dict[int, int], entry: Message) -> Holder:
    """Fork a holder of these descriptors, which are for the tasks of these pids, and describe it."""
    ready, says_ready = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _hold(fds)
        finally:
            os._exit(0)
    os.close(says_ready)
    os.read(ready, 1)
    os.close(ready)
    entry.pid = pid
    entry.starttime = read_stat(pid).starttime
    entry.tasks.extend(fds)
    entry.fds.extend(fds.values())
    return Holder(pid, os.pidfd_open(pid), fds)


def _hold(fds: dict[int, int]) -> None:
    """In the new process: keep nothing else of the engine, the pipe included, and wait for the end of all tasks."""
    os.setsid()
    os.chdir("/")
    syscall(NR["prctl"], _PR_SET_NAME, _NAME + b"\0")
    waiting = {os.pidfd_open(pid) for pid in fds}
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    keep = sorted({0, 1, 2, *fds.values(), *waiting})
    for low, high in zip(keep, [*keep[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
    while waiting:
        waiting -= {pidfd for pidfd, _ in _poll(waiting).poll()}


def _poll(pidfds: Iterable[int]) -> select.poll:
    """Waits for one of these processes to end."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    return poll
