"""A leader that has exited before the other threads of its process: pthread_exit(3) in main().

It stays a zombie which nobody can reap until the last thread has gone (kernel/exit.c, delay_group_leader). Whether its
exit code or that of the last thread is then the process's depends on the kernel (synchronize_group_exit). Signals to
the process are still addressed to it, and judged by its credentials. All else that belongs to the process is to be had
from a thread that lives.

In images it is the first of the task's threads, as any leader, its core has the process's part, and the state in that
is DEAD with the raw exit status of this one thread. A whole zombie has no threads. A process that is stopped as well
has a stop_signo.

What nobody can ask a dead thread for is not kept: securebits, seccomp filters and the signal for its parent's death.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.prctl import PR_SET_NAME
from engine.kernel.proc_stat import read_stat
from engine.tape.tape import Tape
from engine.task import cgroups, cpu_state, credentials, scheduling
from engine.task.personality import comm_of
from engine.task.tree import DEAD

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.task.tree import Task, Thread

Message = Any

_EXITING_SECONDS = 5.0


def collect(ctx: DumpContext, thread: Thread) -> None:
    """Begin its core, with what /proc still shows of it and what the schema requires."""
    from engine.images.schema import message

    core = thread.core = message("core_entry")(mtype=cpu_state.march())
    core.thread_core.futex_rla, core.thread_core.futex_rla_len = 0, 0
    core.tc.blk_sigset = core.thread_core.blk_sigset = thread.status.sig_blk
    for subject in (cgroups, credentials, scheduling):
        subject.collect_thread(ctx, thread, core)


def finish_collecting(task: Task) -> None:
    """Say of the process's part, complete by now, that its leader is dead."""
    core = task.core
    core.tc.task_state = DEAD
    core.tc.exit_code = read_stat(task.pid, task.pid).exit_code


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """It must have ended by exit(2), the only way in which a thread ends alone."""
    if task.dead_leader is not None and task.core.tc.exit_code & ~0xFF00:
        problem = f"its leading thread exited with the impossible status {task.core.tc.exit_code:#x}"
        ctx.problems.add(problem, task.pid, "the image is damaged")


def exit_leader(task: RestoredTask, ctx: RestoreContext) -> None:
    """The leader's stub has made the other threads: it gets what still shows of it and exits. The stub of the first of
    those is the task's from now on.

    It is let go first, since a tracer is never told of a death that its leader's parent is not told of. The engine's
    death still ends the process: all other threads are traced.
    """
    leader = task.dead_leader
    assert leader is not None
    tape = Tape()
    tape.call("prctl", PR_SET_NAME, tape.buffer(comm_of(task.core.tc)))
    scheduling.restore_thread(tape, leader, task, ctx)
    credentials.restore_thread(tape, leader, task, ctx)
    leader.stub.run(tape)
    tape = Tape()
    tape.call("exit", task.core.tc.exit_code >> 8)
    leader.stub.let_go(tape, task.core.tc.blk_sigset)
    task.stub = task.threads[0].stub
    _await_exit(task.pid)


def _await_exit(pid: int) -> None:
    deadline = time.monotonic() + _EXITING_SECONDS
    while read_stat(pid, pid).state != "Z":
        if time.monotonic() > deadline:
            raise CrError(f"task {pid}: its leading thread does not exit")
        os.sched_yield()
