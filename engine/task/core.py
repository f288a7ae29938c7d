"""core-TID.img: all that belongs to a thread or to its process and fits into one message.

Each module below holds one subject, dump facing restore, and offers what applies of:

    collect_task(ctx, task, core)            on dump, from the outside; problems go to ctx.problems
    collect_thread(ctx, thread, core)        the same for each living thread; core is that thread's
    ask_task(tape, task, core)               on dump, from inside: add calls, return a function that takes the answers
    ask_thread(tape, thread, core)           the same in each thread
    check(task, ctx)                         before a restore: problems go to ctx.problems
    restore_process(tape, task, ctx)         on restore, in the leader, which all other threads are to inherit from
    restore_task(tape, task, ctx)            in the leader, once for the process
    restore_thread(tape, thread, task, ctx)  in each thread
    finish_task(tape, task, ctx)             in the leader, once all threads of all tasks are complete

The order of restoring is that of SUBJECTS: what needs privileges comes before the credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.task import (
    apparmor,
    cgroups,
    controlling,
    cpu_state,
    credentials,
    dead_leader,
    dumpable,
    limits,
    lsm,
    personality,
    scheduling,
    seccomp,
    signals,
    thread_area,
    timers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.tape.tape import Tape
    from engine.task.tree import Task, Thread

Message = Any

SUBJECTS: tuple[Any, ...] = (
    cgroups,
    cpu_state,
    thread_area,
    personality,
    controlling,
    signals,
    scheduling,
    limits,
    seccomp,
    lsm,
    credentials,
    dead_leader,
    dumpable,
    timers,
)


def _offering(name: str) -> list[Callable[..., Any]]:
    return [getattr(subject, name) for subject in SUBJECTS if hasattr(subject, name)]


def collect(ctx: DumpContext, task: Task) -> None:
    """Make the cores of all threads of a task, as far as they can be known from outside."""
    from engine.images.schema import message

    if task.dead_leader:
        dead_leader.collect(ctx, task.dead_leader)
    for thread in task.threads:
        thread.core = message("core_entry")()
        for collect_thread in _offering("collect_thread"):
            collect_thread(ctx, thread, thread.core)
    for collect_task in _offering("collect_task"):
        collect_task(ctx, task, task.core)
    if task.dead_leader:
        dead_leader.finish_collecting(task)


def ask_thread(tape: Tape, thread: Thread) -> list[Callable[[], None]]:
    """Add to a thread's tape what only it can tell; the functions returned put the answers into its core."""
    answers = [ask(tape, thread, thread.core) for ask in _offering("ask_thread")]
    if thread is thread.task.leader:
        answers += [ask(tape, thread.task, thread.task.core) for ask in _offering("ask_task")]
    return [answer for answer in answers if answer]


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """Find what would keep a task's cores from being restored."""
    for check_subject in _offering("check"):
        check_subject(task, ctx)


def restore_process(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """Add to the leader's tape what all threads have from it."""
    for restore in _offering("restore_process"):
        restore(tape, task, ctx)


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """Add to the leader's tape what belongs to the process."""
    for restore in _offering("restore_task"):
        restore(tape, task, ctx)


def restore_thread(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """Add to a thread's tape what belongs to the thread."""
    for restore in _offering("restore_thread"):
        restore(tape, thread, task, ctx)


def finish_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """Add to the leader's tape what must not come before anything else: timers that run, limits."""
    for finish in _offering("finish_task"):
        finish(tape, task, ctx)


def of_zombie(ctx: DumpContext, task: Task) -> Message:
    """The core of a dead task."""
    from engine.images.schema import message

    core = message("core_entry")()
    core.mtype = cpu_state.march()
    personality.of_zombie(task, core)
    controlling.collect_task(ctx, task, core)
    return core


def write_shared(ctx: DumpContext) -> None:
    """Images of the whole tree that belong to subjects above."""
    seccomp.write(ctx)
    apparmor.write(ctx)


def blocked_signals(thread: RestoredThread) -> int:
    """The signal mask with which a thread goes on."""
    return signals.blocked_signals(thread.core)
