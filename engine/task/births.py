"""In which order a tree is born: who clones whom, and who leads a session when.

A task gets its session from its creator at birth, or makes its own. So a child of another session than its parent's
final one is born before the parent calls setsid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.restore_context import RestoredTask


class Clone(NamedTuple):
    """`creator` makes `task` with these clone flags."""

    creator: RestoredTask
    task: RestoredTask
    flags: int


class Setsid(NamedTuple):
    """`task` becomes the leader of a new session."""

    task: RestoredTask


Step = Clone | Setsid


def plan(root: RestoredTask) -> Iterator[Step]:
    """The steps after the root's own creation, a creator's before those of what it creates."""
    leads = root.sid == root.pid
    before = [child for child in root.children if leads and child.sid not in (root.pid, child.pid)]
    for child in before:
        yield Clone(root, child, 0)
        yield from plan(child)
    if leads:
        yield Setsid(root)
    for child in root.children:
        if child not in before:
            yield Clone(root, child, 0)
            yield from plan(child)


def join_groups(tasks: list[RestoredTask]) -> None:
    """Process groups, leaders first. Groups led from outside of the tree stay those of the creator."""
    from engine.tape.tape import Tape

    pids = {task.pid for task in tasks}
    members = [task for task in tasks if task.pgid in pids and task.pgid != task.sid]
    for task in sorted(members, key=lambda task: task.pgid != task.pid):
        tape = Tape()
        tape.call("setpgid", 0, task.pgid)
        task.stub.run(tape)


def die(task: RestoredTask) -> None:
    """Make a stub end as its image says: by exit or by a signal. It stays a zombie until its parent waits."""
    import os
    import signal

    from engine.kernel import ptrace
    from engine.tape.tape import Tape

    status = task.core.tc.exit_code
    stub = task.stub
    fatal = status & 0x7F
    tape = Tape()
    if not fatal:
        tape.call("exit_group", status >> 8 & 0xFF)
        stub.start(tape)
    elif fatal == signal.SIGKILL:
        os.kill(task.pid, signal.SIGKILL)
    else:
        stub.tracee.set_sigmask(ptrace.ALL_SIGNALS & ~(1 << fatal - 1))
        stub.tracee.cont(fatal)
    while not stub.tracee.wait().dead:
        stub.tracee.cont(fatal)
