"""Resource limits. They come from /proc/PID/limits and are set from inside: prlimit(2) on another user's task needs
CAP_SYS_RESOURCE in every case, getting as well as setting."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel.procfs import read_limits

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape
    from engine.task.tree import Task

Message = Any

_RLIM_NLIMITS = 16
_PAIR = struct.Struct("<QQ")


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """All 16 pairs; infinity is 2^64 - 1."""
    for limit in read_limits(task.pid):
        core.tc.rlimits.rlimits.add(cur=limit.soft, max=limit.hard)


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The kernel knows 16."""
    limits = task.core.tc.rlimits.rlimits
    if task.threads and len(limits) > _RLIM_NLIMITS:
        ctx.problems.add(f"its core image has {len(limits)} resource limits", task.pid, "the image is damaged")


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    for number, limit in enumerate(task.core.tc.rlimits.rlimits):
        tape.call("setrlimit", number, tape.buffer(_PAIR.pack(limit.cur, limit.max)))
