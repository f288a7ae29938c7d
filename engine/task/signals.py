"""Signal handlers, masks and queues."""

from __future__ import annotations

import os
import signal
import struct
import time
from typing import TYPE_CHECKING, Any

from engine.kernel import ptrace
from engine.kernel.libc import NR, syscall
from engine.kernel.proc_stat import read_stat
from engine.tape.tape import Tape
from engine.task import timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Task, Thread

Message = Any

SIGNALS = [number for number in range(1, 65) if number not in (signal.SIGKILL, signal.SIGSTOP)]
"""The order of sigactions in images."""
_SIGACTION = struct.Struct("<QQQQ")
_SIGSET_SIZE = 8
_STOPPING_SECONDS = 1.0


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """The queue of the process, oldest first."""
    for info in task.leader.tracee.pending_signals(shared=True):
        core.tc.signals_s.signals.add(siginfo=info)
    core.tc.signals_s.SetInParent()
    _refuse_trap(ctx, task, core.tc.signals_s, "it")


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """Mask and queue of a thread."""
    pending = thread.tracee.pending_signals(shared=False)
    for info in pending:
        core.thread_core.signals_p.signals.add(siginfo=info)
    core.thread_core.signals_p.SetInParent()
    mask = thread.tracee.sigmask()
    if thread.tid == thread.task.pid:
        core.tc.blk_sigset = mask
    core.thread_core.blk_sigset = mask
    _refuse_trap(ctx, thread.task, core.thread_core.signals_p, f"thread {thread.tid}")


def _refuse_trap(ctx: DumpContext, task: Task, queue: Message, whose: str) -> None:
    """A pending SIGTRAP can't be told from those that ptrace makes, and would be lost."""
    if any(struct.unpack_from("<i", entry.siginfo)[0] == signal.SIGTRAP for entry in queue.signals):
        ctx.problems.add(f"{whose} has a SIGTRAP pending", task.pid, "let it handle the signal")


def ask_task(tape: Tape, task: Task, core: Message) -> Callable[[], None]:
    """The handlers."""
    actions = tape.buffer(len(SIGNALS) * _SIGACTION.size)
    for index, number in enumerate(SIGNALS):
        tape.call("rt_sigaction", number, 0, actions.at(index * _SIGACTION.size), _SIGSET_SIZE)

    def answer() -> None:
        for handler, flags, restorer, mask in _SIGACTION.iter_unpack(actions.content):
            core.tc.sigactions.add(sigaction=handler, flags=flags, restorer=restorer, mask=mask)

    return answer


def blocked_signals(core: Message) -> int:
    """The mask with which a thread goes on. A leader's stands in the task part; old images know no other place."""
    if core.HasField("tc"):
        return int(core.tc.blk_sigset)
    return int(core.thread_core.blk_sigset)


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """siginfo must be whole, and the handlers all there."""
    queues = [task.core.tc.signals_s, *(thread.core.thread_core.signals_p for thread in task.threads)]
    if any(len(entry.siginfo) != ptrace.SIGINFO_SIZE for queue in queues for entry in queue.signals):
        ctx.problems.add("a siginfo in its core image has not 128 bytes", task.pid, "the image is damaged")
    if task.threads and len(task.core.tc.sigactions) != len(SIGNALS):
        problem = f"its core image has {len(task.core.tc.sigactions)} signal handlers, not {len(SIGNALS)}"
        ctx.problems.add(problem, task.pid, "the image is damaged")


def _queued(task: RestoredTask, queue: Message) -> Iterator[tuple[int, Message]]:
    """(number, siginfo_entry) of all but those of periodic timers, which queue them themselves, and SIGSTOP, which
    nothing can block: it would stop the stub. It is sent last."""
    of_timers = timers.pending_timers(task)
    for entry in queue.signals:
        (number,) = struct.unpack_from("<i", entry.siginfo)
        if number != signal.SIGSTOP and timers.timer_of(entry.siginfo) not in of_timers:
            yield number, entry


def stop_signal(task: RestoredTask) -> int:
    """The signal that stops a task which was stopped, or was about to be; 0 for none."""
    tc = task.core.tc
    if task.is_stopped:
        return int(tc.stop_signo or signal.SIGSTOP)
    queues = [tc.signals_s, *(thread.core.thread_core.signals_p for thread in task.threads)]
    return signal.SIGSTOP if any(signal.SIGSTOP in _numbers(queue) for queue in queues) else 0


def _numbers(queue: Message) -> set[int]:
    return {struct.unpack_from("<i", entry.siginfo)[0] for entry in queue.signals}


def stop_again(task: RestoredTask) -> None:
    """A stopped task may have a stop signal pending, which it takes no notice of: SIGSTOP, or the one that has stopped
    it, which was then queued a second time, while a restore could queue it only once. Either can only be sent when the
    task, let go by now, has stopped; a task that somebody continues meanwhile needs it no more."""
    tc = task.core.tc
    if not task.is_stopped:
        return
    for queue, tid in [(tc.signals_s, 0), *((t.core.thread_core.signals_p, t.tid) for t in task.threads)]:
        for number in _numbers(queue) & {signal.SIGSTOP, stop_signal(task)}:
            _await_stop(task)
            if tid:
                syscall(NR["tgkill"], task.pid, tid, int(number))
            else:
                os.kill(task.pid, number)


def _await_stop(task: RestoredTask) -> None:
    deadline = time.monotonic() + _STOPPING_SECONDS
    while read_stat(task.threads[0].tid).state != "T" and time.monotonic() < deadline:
        os.sched_yield()


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """Handlers and the queue of the process. Everything is blocked in a stub, so what is queued stays queued; a task
    may queue itself any siginfo (kernel/signal.c, do_rt_sigqueueinfo)."""
    handlers = task.core.tc.sigactions
    actions = tape.buffer(b"".join(_SIGACTION.pack(a.sigaction, a.flags, a.restorer, a.mask) for a in handlers))
    for index, number in enumerate(SIGNALS):
        tape.call("rt_sigaction", number, actions.at(index * _SIGACTION.size), 0, _SIGSET_SIZE)
    for number, entry in _queued(task, task.core.tc.signals_s):
        tape.call("rt_sigqueueinfo", task.pid, number, tape.buffer(entry.siginfo))


def restore_thread(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """The queue of a thread."""
    for number, entry in _queued(task, thread.core.thread_core.signals_p):
        tape.call("rt_tgsigqueueinfo", task.pid, thread.tid, number, tape.buffer(entry.siginfo))
