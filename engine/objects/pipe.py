"""Pipes. Each end is a description of its own, and an end opened again through /proc is one more.

All ends of a pipe are made at the first need of one, with the data already in: only then can the engine give up the
ends that nobody had, and readers see the end of the file, or writers EPIPE, as they did.

An end held outside of the tree (the pipe of a shell, of a container's supervisor) can't come back by itself. The dump
says so; who restores passes the end by --inherit-fd.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any

from engine import log
from engine.objects import pipe_data
from engine.objects.base import FileKind
from engine.objects.external import inherited, is_inherited
from engine.objects.paths import reopen
from engine.objects.status_flags import O_LARGEFILE, SETTABLE

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any


class Pipe(FileKind):
    """PIPE."""

    type = 2
    field = "pipe"

    def recognise(self, file: OpenFile) -> bool:
        return stat.S_ISFIFO(file.stat.st_mode) and file.link.startswith("pipe:[")

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        return message("pipe_entry")(id=file.id, pipe_id=file.stat.st_ino, flags=file.flags)

    def finish_dump(self, ctx: DumpContext) -> None:
        pipes: dict[int, list[OpenFile]] = {}
        for file in ctx.files:
            if file.kind is self:
                pipes.setdefault(file.stat.st_ino, []).append(file)
        with ctx.images.writer("PIPES_DATA") as image:
            for pipe_id, files in pipes.items():
                external = len(pipe_data.directions(files)) == 1 and pipe_data.has_peer(files[0])
                if external:
                    log.warn(
                        f"task {files[0].task.pid}: {files[0]}: {_holder(pipe_id, ctx)} has the other end; "
                        f"restore needs --inherit-fd fd[N]:{_key(pipe_id)}"
                    )
                pipe_data.write(image, pipe_id, files, external)

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        key = _key(entry.pipe_id)
        if is_inherited(ctx, key):
            return
        queues = ctx.part(_RestoredPipes).queues
        data = queues.entry(entry.pipe_id)
        if data is not None and data.external:
            what = f"{key}: its other end was not in the tree that was dumped"
            ctx.problems.add(what, remedy=f"pass an end by --inherit-fd fd[N]:{key}")
        why = queues.problem(entry.pipe_id)
        if why:
            ctx.problems.add(f"{key}: {why}", remedy="raise /proc/sys/fs/pipe-max-size")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        return ctx.part(_RestoredPipes).open(entry)


def _key(pipe_id: int) -> str:
    """What /proc/PID/fd shows for a pipe, and --inherit-fd calls it."""
    return f"pipe:[{pipe_id}]"


def _holder(pipe_id: int, ctx: DumpContext) -> str:
    """Who outside of the tree has a pipe open."""
    inside = {task.pid for task in ctx.tasks} | {os.getpid()}
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) in inside:
            continue
        try:
            for fd in os.listdir(f"/proc/{name}/fd"):
                if os.readlink(f"/proc/{name}/fd/{fd}") == _key(pipe_id):
                    with open(f"/proc/{name}/comm", errors="replace") as comm:
                        return f"process {name} ({comm.read().strip()})"
        except OSError:
            continue
    return "something outside of the tree"


class _RestoredPipes:
    """The pipes of a restore."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self.queues = pipe_data.Queues(ctx, "PIPES_DATA")
        self._pipes: dict[int, list[Message]] = {}
        self._made: dict[int, int] = {}
        for entry in ctx.entries.values():
            if entry.HasField("pipe"):
                self._pipes.setdefault(entry.pipe.pipe_id, []).append(entry.pipe)
        ctx.at_end(self._close)

    def open(self, entry: Message) -> int:
        """The description of an entry."""
        if entry.id not in self._made:
            ends = self._pipes[entry.pipe_id]
            given = inherited(self._ctx, _key(entry.pipe_id))
            if given is not None:
                adopted = self.queues.adopt(entry.pipe_id, given, [end.flags for end in ends])
                self._made.update(zip((end.id for end in ends), adopted, strict=True))
            else:
                self._make(entry.pipe_id, ends)
        return self._made.pop(entry.id)

    def _make(self, pipe_id: int, ends: list[Message]) -> None:
        """A pipe with its contents and all its descriptions."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        free = {os.O_RDONLY: read_end, os.O_WRONLY: write_end}
        try:
            self.queues.fill(pipe_id, write_end, [end.flags for end in ends])
            for end in ends:
                mode = end.flags & os.O_ACCMODE
                original = not end.flags & O_LARGEFILE and mode in free
                fd = self._made[end.id] = free.pop(mode) if original else reopen(read_end, mode)
                fcntl.fcntl(fd, fcntl.F_SETFL, end.flags & SETTABLE)
        finally:
            for fd in free.values():
                os.close(fd)

    def _close(self) -> None:
        """Ends that turned out to be nobody's."""
        for fd in self._made.values():
            os.close(fd)
        self._made.clear()
