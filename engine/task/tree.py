"""The tasks of a tree as dump and restore hold them: who they are and by what handles the engine has them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.kernel.memory import Memory
from engine.kernel.proc_status import Status, read_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.kernel.proc_maps import Vma
    from engine.kernel.proc_stat import Stat
    from engine.kernel.ptrace import Tracee
    from engine.tape.visit import Visit

# pstree states as images have them (task_core_entry.task_state).
ALIVE, DEAD, STOPPED = 1, 2, 3

_PIDFD_THREAD = os.O_EXCL


class Thread:
    """A thread under ptrace.

    stop_signo   the signal of the group-stop it was found in, 0 for none
    core         its core_entry, once that has been begun
    """

    __slots__ = ("_status", "core", "stop_signo", "task", "tid", "tracee")

    def __init__(self, task: Task, tid: int, tracee: Tracee) -> None:
        self.task = task
        self.tid = tid
        self.tracee = tracee
        self.stop_signo = 0
        self.core: Any = None
        self._status: Status | None = None

    @property
    def status(self) -> Status:
        """/proc/PID/task/TID/status, read once: the thread stands still."""
        if self._status is None:
            self._status = read_status(self.task.pid, self.tid)
        return self._status


class Task:
    """A process of the tree.

    pid .. sid     as the engine's pid namespace shows them
    state          ALIVE, DEAD (a zombie: no threads, no memory) or STOPPED (by stop_signo)
    exit_code      raw wait status of a zombie
    threads        those that live, leader first
    dead_leader    the leader that has exited before the others, never traced; None for a leader that lives
    stat           /proc/PID/stat as it is when all threads stand
    may_be_probed  whether breakpoints in its text are to be taken for uprobes (--allow-uprobes)
    """

    def __init__(self, pid: int, parent: Task | None) -> None:
        self.pid = pid
        self.parent = parent
        self.children: list[Task] = []
        self.threads: list[Thread] = []
        self.dead_leader: Thread | None = None
        self.pgid = 0
        self.sid = 0
        self.state = ALIVE
        self.exit_code = 0
        self.stop_signo = 0
        self.stat: Stat
        self.vmas: list[Vma] = []
        self.may_be_probed = False
        self.visit: Visit | None = None
        self._pidfd = -1
        self._memory: Memory | None = None

    @property
    def ppid(self) -> int:
        return self.parent.pid if self.parent else 0

    @property
    def leader(self) -> Thread:
        """The thread the engine works through: the group leader, or another where that one has exited."""
        return self.threads[0]

    @property
    def all_threads(self) -> list[Thread]:
        """The leader first even if it has exited."""
        return [*([self.dead_leader] if self.dead_leader else []), *self.threads]

    @property
    def proc(self) -> int:
        """The number by which /proc and kcmp(2) show the process: memory, descriptors and directories of a leader that
        has exited are gone, and only to be seen through a thread that lives. /proc/TID is there, though not listed."""
        return self.threads[0].tid if self.dead_leader else self.pid

    @property
    def core(self) -> Any:
        """The core_entry with the process's part."""
        return (self.dead_leader or self.leader).core

    @property
    def pidfd(self) -> int:
        """Raises OSError: EINVAL for a dead leader where the kernel has no PIDFD_THREAD (before Linux 6.9)."""
        if self._pidfd < 0:
            self._pidfd = os.pidfd_open(self.proc, _PIDFD_THREAD if self.dead_leader else 0)
        return self._pidfd

    @property
    def memory(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(self.pid, self.proc)
        return self._memory

    def forget_memory(self) -> None:
        """After an exec: the handle leads to the old address space."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def close(self) -> None:
        """Give back the handles."""
        self.forget_memory()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def walk(self) -> Iterator[Task]:
        """This task and its descendants, a parent before its children: the order of pstree.img."""
        waiting = [self]
        while waiting:
            task = waiting.pop()
            yield task
            waiting += reversed(task.children)
