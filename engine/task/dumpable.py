"""Whether a task may dump core and be traced by its own user: mm_entry.dumpable, PR_SET_DUMPABLE(2const).

0 no, 1 yes, 2 only for root. Nobody can ask for 2: a task gets what the sysctl fs.suid_dumpable says when its ids
change. Where that is 2, a change makes it so; elsewhere 0 is at least as strict.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from engine.kernel.prctl import PR_SET_DUMPABLE

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape

_FOR_ROOT = 2


def is_given_by_change(task: RestoredTask) -> bool:
    """Whether the task needs a change of its ids for its value."""
    return bool(task.mm.dumpable == _FOR_ROOT and _suid_dumpable() == _FOR_ROOT)


@cache
def _suid_dumpable() -> int:
    with open("/proc/sys/fs/suid_dumpable") as file:
        return int(file.read())


def finish_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """After the credentials of all threads: changing those resets it."""
    if task.mm.HasField("dumpable") and not is_given_by_change(task):
        tape.call("prctl", PR_SET_DUMPABLE, 1 if task.mm.dumpable == 1 else 0)
