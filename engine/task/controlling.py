"""Whether a task has the controlling terminal of its session. How that comes back: objects/tty_session.py.

A task inherits the terminal by fork. It has none if it is older than the leader's claim to it, or gave it up (TIOCNOTTY
in ioctl_tty(2)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.task.tree import Task

Message = Any


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """Without a word it has the terminal, as in images of other engines."""
    if not task.stat.tty_nr and any(other.sid == task.sid and other.stat.tty_nr for other in ctx.tasks):
        core.tc.without_terminal = True
