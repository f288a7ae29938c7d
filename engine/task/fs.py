"""Working directory, root and umask: fs-PID.img."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.kernel.proc_status import read_status

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape
    from engine.task.tree import Task

Message = Any


def collect(ctx: DumpContext, task: Task) -> Message:
    """fs_entry of a task. cwd and root get REG entries in files.img."""
    from engine.images.schema import message

    entry = message("fs_entry")()
    entry.cwd_id = _directory(ctx, task, "cwd")
    entry.root_id = _directory(ctx, task, "root")
    entry.umask = read_status(task.pid).umask
    return entry


def _directory(ctx: DumpContext, task: Task, name: str) -> int:
    from engine.objects.regular import mapped_file_id

    path = f"/proc/{task.pid}/{name}"
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mapped_file_id(ctx, task, fd, os.readlink(path))
    finally:
        os.close(fd)


def restore(tape: Tape, task: RestoredTask, cwd: int, root: int) -> None:
    """Change to the directories behind the task's descriptors `cwd` and `root`. umask stays 0 until files are done.

    chroot(2) takes a path: the root is entered first and "." made the root.
    """
    tape.call("fchdir", root)
    tape.call("chroot", tape.buffer(b".\0"))
    tape.call("fchdir", cwd)
    if task.fs.HasField("umask"):
        tape.call("umask", task.fs.umask)


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The directories must be in files.img."""
    for file_id in (task.fs.cwd_id, task.fs.root_id):
        if file_id not in ctx.entries:
            ctx.problems.add(f"fs image names file {file_id}, which files.img lacks", task.pid, "the image is damaged")
