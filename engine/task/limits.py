"""Resource limits. They come from /proc/PID/limits and are set from inside: prlimit(2) on another user's task needs
CAP_SYS_RESOURCE in every case, getting as well as setting.

No limit of a task, nor any of the engine's own, may get in the way of a restore: too few descriptors or queued signals,
too small files or address spaces. Stubs have the highest that the engine may give, and get their own last of all.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel.capabilities import CAP_SYS_RESOURCE
from engine.kernel.proc_status import read_status
from engine.kernel.procfs import RLIM_INFINITY, read_limits

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape
    from engine.task.tree import Task

Message = Any

_NAMES = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
).split()
_PAIR = struct.Struct("<QQ")


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """All 16 pairs; infinity is 2^64 - 1."""
    for limit in read_limits(task.proc):
        core.tc.rlimits.rlimits.add(cur=limit.soft, max=limit.hard)


# Restore


class _Possible:
    """What limits the engine can give to a task."""

    def __init__(self, ctx: RestoreContext) -> None:
        self.hard = [limit.hard for limit in read_limits(ctx.pid)]
        self.may_raise = bool(read_status(ctx.pid).cap_eff >> CAP_SYS_RESOURCE & 1)
        with open("/proc/sys/fs/nr_open") as file:
            self.most_files = int(file.read())


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The kernel knows 16; a soft one is no more than a hard one, and that no more than the engine may give."""
    possible = ctx.part(_Possible)
    limits = task.core.tc.rlimits.rlimits
    if len(limits) > len(_NAMES):
        ctx.problems.add(f"its core image has {len(limits)} resource limits", task.pid, "the image is damaged")
        return
    for name, limit, own in zip(_NAMES, limits, possible.hard, strict=False):
        if limit.cur > limit.max:
            problem = f"its soft RLIMIT_{name} {limit.cur} is above the hard one, {limit.max}"
            ctx.problems.add(problem, task.pid, "the image is damaged")
        elif limit.max > own and not possible.may_raise:
            problem = f"its hard RLIMIT_{name} {_text(limit.max)} is above the engine's, {_text(own)}"
            ctx.problems.add(problem, task.pid, "raise that of the engine, or give it CAP_SYS_RESOURCE")
        elif name == "NOFILE" and limit.max > possible.most_files:
            problem = f"its hard RLIMIT_NOFILE {_text(limit.max)} is above the system's, {possible.most_files}"
            ctx.problems.add(problem, task.pid, "raise the sysctl fs.nr_open")


def _text(limit: int) -> str:
    return "unlimited" if limit == RLIM_INFINITY else str(limit)


def loosen(tape: Tape, ctx: RestoreContext) -> None:
    """In the first stub, whose limits all others inherit: as high as it may have them."""
    for number, hard in enumerate(ctx.part(_Possible).hard):
        tape.call("setrlimit", number, tape.buffer(_PAIR.pack(hard, hard)))


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """While there are the privileges for it: hard limits above the engine's."""
    for number, (limit, own) in enumerate(zip(task.core.tc.rlimits.rlimits, ctx.part(_Possible).hard, strict=False)):
        if limit.max > own:
            tape.call("setrlimit", number, tape.buffer(_PAIR.pack(limit.max, limit.max)))


def finish_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """When nothing is left to be done that could meet one."""
    for number, limit in enumerate(task.core.tc.rlimits.rlimits):
        tape.call("setrlimit", number, tape.buffer(_PAIR.pack(limit.cur, limit.max)))
