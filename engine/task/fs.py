"""Working directory, root and umask: fs-PID.img."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.tape.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.channel import Channel
    from engine.task.tree import Task

Message = Any


def collect(ctx: DumpContext, task: Task) -> Message:
    """fs_entry of a task. cwd and root get REG entries in files.img."""
    from engine.images.schema import message

    entry = message("fs_entry")()
    entry.cwd_id = _directory(ctx, task, "cwd")
    entry.root_id = _directory(ctx, task, "root")
    entry.umask = task.leader.status.umask
    return entry


def refuse(ctx: DumpContext, task: Task) -> None:
    """Add to the problems what collect() would find, without writing anything."""
    from engine.objects.regular import refuse_mapped

    for name in ("cwd", "root"):
        with _opened(task, name) as (fd, link):
            refuse_mapped(ctx, task, fd, link)


def _directory(ctx: DumpContext, task: Task, name: str) -> int:
    from engine.objects.regular import mapped_file_id

    with _opened(task, name) as (fd, link):
        return mapped_file_id(ctx, task, fd, link)


@contextmanager
def _opened(task: Task, name: str) -> Iterator[tuple[int, str]]:
    """A descriptor of one of a task's directories, and what its link says."""
    path = f"/proc/{task.proc}/{name}"
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd, os.readlink(path)
    finally:
        os.close(fd)


def restore(task: RestoredTask, ctx: RestoreContext, channel: Channel) -> None:
    """Change to the task's directories. All tasks exist: one may be in /proc/PID of another. Its descriptor table is
    still empty. umask stays 0 until files are done.

    chroot(2) takes a path: the root is entered first and "." made the root.
    """
    fds = []
    for file_id in (task.fs.cwd_id, task.fs.root_id):
        kind, message = ctx.submessage(file_id)
        fds.append(kind.open_mapped(message, os.O_RDONLY, ctx))
    channel.send(task.stub, fds)
    for fd in fds:
        os.close(fd)
    cwd, root = 0, 1
    tape = Tape()
    tape.call("fchdir", root)
    tape.call("chroot", tape.buffer(b".\0"))
    tape.call("fchdir", cwd)
    tape.call("close_range", cwd, root, 0)
    if task.fs.HasField("umask"):
        tape.call("umask", task.fs.umask)
    task.stub.run(tape)


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The directories must be in files.img."""
    for file_id in (task.fs.cwd_id, task.fs.root_id):
        ctx.check_path(file_id, f"fs-{task.pid}.img")
