"""Registers of a thread. What they are is told by a module an architecture, which offers

MARCH                       core_entry.march
load_ahead()                find out what there is to know about this processor
collect_thread, check       as all subjects of core.py do
info(core)                  the message of the core that holds the registers; clear_tid_addr is one of its fields
ip(core), set_ip(core, ip)  the instruction at which the thread goes on
final_registers(thread)     the general registers for ptrace, with which a stub becomes the thread
restore_extended(thread)    all others
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.tape import arch as architectures

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any


@cache
def _module() -> Any:
    return importlib.import_module(f"engine.task.cpu_state_{architectures.current().NAME}")


def march() -> int:
    """core_entry.march of this architecture."""
    return int(_module().MARCH)


def load_ahead() -> None:
    """Load and find out what takes its time, once, before a tree is frozen."""
    _module().load_ahead()


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """All registers by ptrace, an interrupted system call undone."""
    core.mtype = march()
    _module().collect_thread(ctx, thread, core)


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The images must be of this architecture, and their registers such as this CPU and user mode have."""
    for thread in task.threads:
        if thread.core.mtype != march() or not thread.core.HasField(_module().INFO):
            problem = f"core-{thread.tid}.img is of another architecture (mtype {thread.core.mtype})"
            ctx.problems.add(problem, task.pid, "restore it on a machine of its own")
        else:
            _module().check(thread, task, ctx)


def info(core: Message) -> Message:
    """The architecture's part of a core."""
    return getattr(core, _module().INFO)


def ip(core: Message) -> int:
    """The instruction at which a thread goes on."""
    return int(_module().ip(core))


def set_ip(core: Message, address: int) -> None:
    """Have it go on elsewhere."""
    _module().set_ip(core, address)


def final_registers(thread: RestoredThread) -> dict[str, int]:
    """The general registers with which the thread goes on. No system call is left to be restarted."""
    registers: dict[str, int] = _module().final_registers(thread)
    return registers


def restore_extended(thread: RestoredThread) -> None:
    """All other registers, by ptrace."""
    _module().restore_extended(thread)
