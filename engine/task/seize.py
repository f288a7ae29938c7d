"""Freezing a tree: every thread of every task under ptrace and stopped, none of them changed.

PTRACE_SEIZE and PTRACE_INTERRUPT stop a thread without a signal, so nothing is left in its queues and a thread that
is already in a group-stop stays in it. A parent is frozen before its children are read: after that it can't make new
ones. What can still change is who adopts the children of a task that was dying just then; and where a child goes while
the kernel lists it, the one behind it may be left out (proc_pid_children(5)). So the tree is read again until two
readings agree, of which the second has met nobody who was gone by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from engine.errors import CrError, Refused
from engine.kernel import ptrace
from engine.kernel.proc_stat import read_stat
from engine.kernel.procfs import children, list_tids
from engine.tape.restart import show_restart
from engine.task import tracing
from engine.task.tree import DEAD, STOPPED, Task, Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from engine.task.freezer import Freezer

_ESRCH = 3
REAPING_SECONDS, _REAPING_STEP = 2.0, 0.0005


def _if_there(read: Callable[[int], list[int]], pid: int) -> list[int]:
    """What is read of a process; nothing if that has gone."""
    try:
        return read(pid)
    except (ProcessLookupError, FileNotFoundError):
        return []


class FrozenTree:
    """A tree under ptrace, as a context manager: whatever happens inside, frozen tasks run on afterwards.

    root_pid  the root task
    timeout   seconds until a tree that can't be stopped is given up
    before    is called with the pid of each task before that is stopped
    freezer   a control group that is frozen while the tree is seized
    """

    def __init__(
        self, root_pid: int, timeout: int, before: Callable[[int], None] = lambda pid: None,
        freezer: Freezer | None = None,
    ) -> None:  # fmt: skip
        self.root_pid = root_pid
        self.timeout = timeout
        self._before = before
        self._freezer = freezer
        self._announced: set[int] = set()
        self.root: Task
        self._threads: dict[int, Thread] = {}
        self._refused: list[str] = []
        self._orphans: list[int] = []

    def __enter__(self) -> FrozenTree:
        self._refuse_own_line()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def freeze(self) -> None:
        """Stop all tasks; from then on they are in self.root. Raises CrError, Refused."""
        previous = signal.signal(signal.SIGALRM, self._too_slow)
        signal.alarm(self.timeout)
        try:
            if self._freezer:
                self._seize_frozen(self._freezer)
            self._seize_all()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)

    def _refuse_own_line(self) -> None:
        """An engine can't stop itself, nor dump a tree that it is in."""
        pid = os.getpid()
        while pid:
            if pid == self.root_pid:
                raise CrError(f"task {pid}: this engine is in its tree (start the engine from elsewhere)")
            pid = read_stat(pid).ppid

    def _too_slow(self, _number: int, _frame: FrameType | None) -> None:
        asleep = [str(tid) for tid in self._threads if self._sleeps_deeply(tid)]
        why = f": {', '.join(asleep)} wait in the kernel, for a vfork child to exec or for a device" if asleep else ""
        raise CrError(
            f"the tree of task {self.root_pid} could not be stopped within {self.timeout} s (see --timeout){why}"
        )

    @staticmethod
    def _sleeps_deeply(tid: int) -> bool:
        """Whether a thread is in an uninterruptible sleep, from which only what it waits for can wake it."""
        try:
            return read_stat(tid).state == "D"
        except (ProcessLookupError, FileNotFoundError):
            return False

    def _seize_frozen(self, freezer: Freezer) -> None:
        """Tell all threads of the tree to stop while none of them runs. What can't be seized, and tasks that are in
        other groups, are the business of those who read the tree afterwards."""
        for pid in self._pids():
            self._announce(pid)
        freezer.freeze()
        told = []
        for pid in self._pids():
            for tid in _if_there(list_tids, pid):
                with contextlib.suppress(Refused):
                    if thread := self._seize(Task(pid, None), tid):
                        thread.tracee.interrupt()
                        told.append(thread)
        freezer.thaw()
        for thread in told:
            self._await_stop(thread)

    def _pids(self) -> Iterator[int]:
        """The tree's processes as of now."""
        waiting = [self.root_pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += _if_there(children, pid)

    def _seize_all(self) -> None:
        previous: list[tuple[int, ...]] | None = None
        while True:
            self.root, is_still = self._read_tree()
            if self._refused:
                raise Refused("dump", self._refused)
            shape = [(t.pid, t.ppid, *(thread.tid for thread in t.threads)) for t in self.root.walk()]
            if is_still and shape == previous:
                return
            previous = shape

    def _read_tree(self) -> tuple[Task, bool]:
        """The root, and whether all the tasks that were listed were still there. Seizes what is new. Iterative: trees
        can be deep."""
        root = Task(self.root_pid, None)
        waiting, is_still = [root], True
        while waiting:
            task = waiting.pop()
            try:
                is_there = self._freeze(task)
            except Refused as refused:
                is_there = True
                self._refused += refused.reasons
            if not is_there:
                if task is root:
                    raise CrError(f"task {self.root_pid} does not exist", cr_errno=_ESRCH)
                assert task.parent is not None
                task.parent.children.remove(task)
                is_still = False
                continue
            for pid in sorted(children(task.pid)) if task.state != DEAD else ():
                child = Task(pid, task)
                task.children.append(child)
                waiting.append(child)
        return root, is_still

    def _freeze(self, task: Task) -> bool:
        """Stop all threads of a task; False when it has gone."""
        try:
            stat = task.stat = read_stat(task.pid)
            if stat.state == tracing.ZOMBIE and len(list_tids(task.pid)) == 1:
                task.state, task.exit_code = DEAD, stat.exit_code
            else:
                self._announce(task.pid)
                if not self._freeze_threads(task):
                    return self._freeze(task)
                stat = task.stat = read_stat(task.proc)
        except (ProcessLookupError, FileNotFoundError):
            return False
        task.pgid, task.sid = stat.pgrp, stat.session
        return True

    def _announce(self, pid: int) -> None:
        if pid not in self._announced:
            self._announced.add(pid)
            self._before(pid)

    def _freeze_threads(self, task: Task) -> bool:
        """Seize until the list of threads stands still; False when the task died under our hands.

        A thread that has exited when it is to be seized may have made another one before, which was not in the list
        yet. So the list stands still once all in it are stopped or had exited before it was read: a dead leader stays.
        """
        exited: set[int] = set()
        while True:
            tids = list_tids(task.pid)
            new = {tid: self._seize(task, tid) for tid in tids if tid not in self._threads}
            fresh = [thread for thread in new.values() if thread]
            for thread in fresh:
                thread.tracee.interrupt()
            for thread in fresh:
                self._await_stop(thread)
            if not fresh and new.keys() <= exited:
                break
            exited = {tid for tid, thread in new.items() if not thread}
        if not any(tid in self._threads for tid in tids):
            return False
        task.threads = [self._threads[tid] for tid in tids if tid in self._threads]
        if task.pid not in self._threads:
            task.dead_leader = Thread(task, task.pid, ptrace.Tracee(task.pid))
        for thread in task.threads:
            thread.task = task
            if thread.stop_signo:
                task.state, task.stop_signo = STOPPED, thread.stop_signo
        return True

    def _seize(self, task: Task, tid: int) -> Thread | None:
        tracee = tracing.seize(task.pid, tid)
        if tracee is None:
            return None
        thread = self._threads[tid] = Thread(task, tid, tracee)
        if tid != task.pid and task.pid in self._threads:
            self._threads[task.pid].tracee.leads = True
        return thread

    def _await_stop(self, thread: Thread) -> None:
        """Wait for the stop that interrupt() asked for, in which the thread's registers tell what it was about."""
        status = thread.tracee.wait_for_stop()
        if not status.dead and not status.is_group_stop:
            status = show_restart(thread.tracee) or status
        if status.dead:
            del self._threads[thread.tid]
        else:
            thread.stop_signo = status.signal if status.is_group_stop else 0

    def release(self) -> None:
        """Let every thread go on. Those in a group-stop stay stopped: detaching reinstates it (kernel/ptrace.c,
        __ptrace_unlink)."""
        if self._freezer:
            self._freezer.restore()
        for thread in self._threads.values():
            try:
                thread.tracee.detach()
            except ProcessLookupError:
                continue
        self._threads.clear()
        for task in self.root.walk() if hasattr(self, "root") else ():
            task.close()

    def stop(self) -> None:
        """Leave the tree stopped (--leave-stopped): the signal waits until the task is let go."""
        for task in self.root.walk():
            if task.state != DEAD:
                signal.pidfd_send_signal(task.pidfd, signal.SIGSTOP)

    def kill(self) -> None:
        """End the whole tree, the normal end of a dump, and wait until nothing of it runs any more."""
        self._orphans = [task.pid for task in self.root.walk() if task is not self.root]
        for task in self.root.walk():
            if task.state != DEAD:
                signal.pidfd_send_signal(task.pidfd, signal.SIGKILL)
        # A leader's death is only reported once its other threads have been waited for.
        for thread in reversed(self._threads.values()):
            try:
                while not thread.tracee.wait().dead:
                    continue
            except ChildProcessError:
                continue
        self._threads.clear()

    def await_reaping(self) -> None:
        """Wait, for a moment, until init has reaped the orphans of a killed tree: a restore wants their pids. The root
        is its parent's to reap, whenever that likes."""
        deadline = time.monotonic() + REAPING_SECONDS
        while self._orphans and time.monotonic() < deadline:
            self._orphans = [pid for pid in self._orphans if os.path.exists(f"/proc/{pid}")]
            if self._orphans:
                time.sleep(_REAPING_STEP)
