"""Scheduling policy, nice value and real-time priority of each thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.tape.tape import Tape
    from engine.task.tree import Thread

Message = Any

_REAL_TIME = (1, 2)
_KNOWN = (0, 1, 2, 3, 5)
_RESET_ON_FORK = 0x40000000


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """Priority only where the policy has one."""
    area = core.thread_core
    policy = os.sched_getscheduler(thread.tid)
    area.sched_policy = policy
    area.sched_nice = os.getpriority(os.PRIO_PROCESS, thread.tid)
    if policy & ~_RESET_ON_FORK in _REAL_TIME:
        area.sched_prio = os.sched_getparam(thread.tid).sched_priority
    elif policy & ~_RESET_ON_FORK not in _KNOWN:
        problem = f"thread {thread.tid} has scheduling policy {policy}, which images can't hold"
        ctx.problems.add(problem, thread.task.pid, "give it another policy")


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    for thread in task.all_threads:
        if thread.core.thread_core.sched_policy & ~_RESET_ON_FORK not in _KNOWN:
            ctx.problems.add(
                f"core-{thread.tid}.img has an unknown scheduling policy", task.pid, "the image is damaged"
            )


def restore_thread(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """By the engine, which may: it is asked for by tid."""
    area = thread.core.thread_core
    if area.HasField("sched_policy"):
        param = os.sched_param(area.sched_prio)
        if (area.sched_policy, area.sched_prio) != (os.sched_getscheduler(thread.tid), 0):
            os.sched_setscheduler(thread.tid, area.sched_policy, param)
    if area.HasField("sched_nice") and area.sched_nice != os.getpriority(os.PRIO_PROCESS, thread.tid):
        os.setpriority(os.PRIO_PROCESS, thread.tid, area.sched_nice)
