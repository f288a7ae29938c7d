"""Control groups. A tree is restored into the engine's own: set 1 of the images, which every thread refers to."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from engine import log
from engine.kernel.procfs import read_cgroups

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.task.tree import Task, Thread

Message = Any

OWN_SET = 1


def own_groups() -> frozenset[tuple[int, str]]:
    """The groups that the engine is in: (number of the hierarchy, path). A fork may be in others."""
    return _groups_of(os.getpid())


@cache
def _groups_of(pid: int) -> frozenset[tuple[int, str]]:
    return frozenset((group.hierarchy, group.path) for group in read_cgroups(pid))


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """thread_core.cg_set of every thread."""
    core.thread_core.cg_set = OWN_SET


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """Say so when a task will not come back into the groups it is in."""
    own = own_groups()
    for group in read_cgroups(task.proc):
        if (group.hierarchy, group.path) not in own:
            log.warn(f"task {task.pid}: is in cgroup {group.path}, but will be restored into the engine's")
