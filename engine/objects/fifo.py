"""Named pipes. The name, the open flags and what became of a deleted one stand in a REG entry of each description's
own; here is what is queued, and which descriptions are ends of the same fifo.

Somebody outside of the tree who has the other end open keeps the fifo's contents alive, so the data would be there
twice after a restore: that is refused.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text
from engine.objects import fown, pipe_data
from engine.objects.base import FileKind
from engine.objects.external import inherited, is_external
from engine.objects.regular import (
    REGULAR,
    describe_path,
    external_key,
    inherit_keys,
    open_entry,
    refuse_path,
    target_of,
)

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any


class Fifo(FileKind):
    """FIFO."""

    type = 3
    field = "fifo"
    has_fown = False

    def recognise(self, file: OpenFile) -> bool:
        return stat.S_ISFIFO(file.stat.st_mode) and file.link.startswith("/")

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        target = target_of(file)
        if is_external(ctx, external_key(target)):
            return
        refuse_path(str(file), target, file.task, ctx)
        ends = [end for end in ctx.files if end.kind is self and _inode(end) == _inode(file)]
        if len(pipe_data.directions(ends)) == 1 and pipe_data.has_peer(file):
            what = f"{file}: a process outside of the tree has the other end of this fifo open"
            ctx.problems.add(what, file.task.pid, "dump it in one tree with that process, or end that")

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        regf_id = ctx.new_file_id()
        companion = describe_path(ctx, target_of(file), regf_id, file.flags)
        fown.dump(file, companion.fown)
        ctx.add_entry(REGULAR, companion)
        pipe_id = ctx.part(_DumpedFifos).pipe_id(file)
        return message("fifo_entry")(id=file.id, pipe_id=pipe_id, regf_id=regf_id)

    def finish_dump(self, ctx: DumpContext) -> None:
        with ctx.images.writer("FIFO_DATA") as image:
            for pipe_id, files in ctx.part(_DumpedFifos).fifos():
                if not is_external(ctx, external_key(target_of(files[0]))):
                    pipe_data.write(image, pipe_id, files)

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        why = ctx.part(_RestoredFifos).queues.problem(entry.pipe_id)
        if why:
            ctx.problems.add(f"fifo {entry.pipe_id}: {why}", remedy="raise /proc/sys/fs/pipe-max-size")
        companion = ctx.entries.get(entry.regf_id)
        if companion is None or not companion.HasField("reg"):
            ctx.problems.add(f"files.img: fifo {entry.id} has no path", remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        return ctx.part(_RestoredFifos).open(entry)

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        fown.restore(fd, ctx.entries[entry.regf_id].reg.fown, ctx)


def _inode(file: OpenFile) -> tuple[int, int]:
    return file.stat.st_dev, file.stat.st_ino


class _DumpedFifos:
    """Numbers of fifos: the inode number as a rule, another one where two file systems have used the same."""

    def __init__(self, _: DumpContext) -> None:
        self._ids: dict[tuple[int, int], int] = {}
        self._files: dict[int, list[OpenFile]] = {}

    def pipe_id(self, file: OpenFile) -> int:
        inode = _inode(file)
        if inode not in self._ids:
            number = inode[1] & 0xFFFFFFFF
            while number in self._files:
                number = (number + 1) & 0xFFFFFFFF
            self._ids[inode] = number
        self._files.setdefault(self._ids[inode], []).append(file)
        return self._ids[inode]

    def fifos(self) -> list[tuple[int, list[OpenFile]]]:
        """Every fifo with its descriptions."""
        return list(self._files.items())


class _RestoredFifos:
    """The fifos of a restore."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self.queues = pipe_data.Queues(ctx, "FIFO_DATA")
        self._fifos: dict[int, list[Message]] = {}
        self._made: dict[int, int] = {}
        for entry in ctx.entries.values():
            if entry.HasField("fifo"):
                self._fifos.setdefault(entry.fifo.pipe_id, []).append(entry.fifo)
        ctx.at_end(self._close)

    def _path(self, entry: Message) -> Message:
        return self._ctx.entries[entry.regf_id].reg

    def open(self, entry: Message) -> int:
        """The description of an entry."""
        if entry.id not in self._made:
            self._make(entry.pipe_id, self._fifos[entry.pipe_id])
        return self._made.pop(entry.id)

    def _make(self, pipe_id: int, ends: list[Message]) -> None:
        """Open a fifo for all its descriptions, its contents in it.

        While the engine has it open for both directions no open(2) waits. A reader that was opened with O_NONBLOCK
        before there was a writer has not seen a hang-up (fs/pipe.c, fifo_open: f_pipe); a writer of ours would show
        it one, so where nobody writes and nothing is queued there is none.
        """
        path = self._path(ends[0])
        flags = [self._path(end).flags for end in ends]
        given = inherited(self._ctx, *inherit_keys(path))
        if given is not None:
            adopted = self.queues.adopt(pipe_id, given, flags)
            self._made.update(zip((end.id for end in ends), adopted, strict=True))
            return
        data = self.queues.entry(pipe_id)
        never_written = not (data and data.bytes) and all(
            f & os.O_ACCMODE == os.O_RDONLY and f & os.O_NONBLOCK for f in flags
        )
        if never_written:
            self._open_ends(ends)
            self.queues.set_size(pipe_id, self._made[ends[0].id])
            return
        keeper = open_entry(path, os.O_RDWR, self._ctx)
        try:
            if pipe_data.queued(keeper):
                raise CrError(f"{get_text(path.name)}: another process has put data into this fifo (end that process)")
            self.queues.fill(pipe_id, keeper, flags)
            self._open_ends(ends)
        finally:
            os.close(keeper)

    def _open_ends(self, ends: list[Message]) -> None:
        for end in ends:
            path = self._path(end)
            self._made[end.id] = open_entry(path, path.flags, self._ctx)

    def _close(self) -> None:
        """Ends that turned out to be nobody's."""
        for fd in self._made.values():
            os.close(fd)
        self._made.clear()
