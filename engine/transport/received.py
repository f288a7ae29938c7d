"""A page map that arrives: checked, run by run, and written with its pages into two images."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.images.pagemap import PagemapWriter, PageReader
from engine.images.runs import LAZY, PAGE, PARENT, PRESENT, Runs
from engine.transport.protocol import Command

if TYPE_CHECKING:
    from engine.images.directory import ImageDir
    from engine.progress import Progress
    from engine.transport.channel import Channel
    from engine.transport.protocol import PageMessage

_WINDOW = 1 << 20
_RUNS_AT_ONCE = 4096
_FLAGS_OF_OLD = {Command.ADD: PRESENT, Command.HOLE: PARENT}


class ReceivedPageMap:
    """One page map. Runs must come in ascending order, and what they leave to the parent must be there.

    has_parent  whether the parent images have this page map
    """

    def __init__(self, images: ImageDir, kind: str, id: int, pages_id: int, progress: Progress) -> None:
        """progress: is told of pages that have come. Raises CrError for parent images that are damaged."""
        self._progress = progress
        self._path = images.path(kind, id)
        self._end = 0
        self._runs: list[tuple[int, int, int]] = []
        self._open = ExitStack()
        self._parent = self._parent_of(images, kind, id)
        self._writer = self._open.enter_context(PagemapWriter(images, id, kind, pages_id))
        self._buffer = memoryview(bytearray(_WINDOW))
        self._writer.write(())

    @property
    def has_parent(self) -> bool:
        return self._parent is not None

    def receive(self, message: PageMessage, channel: Channel) -> None:
        """The next run, and its pages, which follow the message."""
        flags = _FLAGS_OF_OLD.get(Command(message.command), message.flags)
        run = message.vaddr, message.nr_pages, flags
        problem = Runs([run]).problem() or self._problem(*run)
        if problem:
            raise CrError(f"{self._path}: {channel.peer} sends a page map in which {problem}")
        self._end = message.vaddr + message.nr_pages * PAGE
        self._runs.append(run)
        if len(self._runs) >= _RUNS_AT_ONCE:
            self._write_runs()
        if flags & PRESENT:
            self._receive_pages(message.nr_pages * PAGE, channel)

    def close(self) -> None:
        """It is complete."""
        with self._open:
            self._write_runs()

    def discard(self) -> None:
        """It is not to be."""
        error = CrError("the page map has not been received")
        self._open.__exit__(type(error), error, None)

    def _parent_of(self, images: ImageDir, kind: str, id: int) -> PageReader | None:
        parent = images.parent()
        if parent is None:
            return None
        with parent:
            return self._open.enter_context(PageReader(parent, id, kind)) if parent.exists(kind, id) else None

    def _problem(self, vaddr: int, nr_pages: int, flags: int) -> str | None:
        """What is wrong with a run that is sound in itself."""
        what = f"the run of {nr_pages} pages at {vaddr:#x}"
        if vaddr < self._end:
            return f"{what} comes after what ends at {self._end:#x}"
        if flags & (PRESENT | PARENT) == PARENT:
            end = vaddr + nr_pages * PAGE
            found = self._parent and sum(part for _, part, _, _ in self._parent.segments(vaddr, end))
            if found != nr_pages:
                return f"{what} is left to parent images that don't have all of it"
        elif not flags & (PRESENT | LAZY):
            return f"{what} is said to be nowhere"
        return None

    def _receive_pages(self, size: int, channel: Channel) -> None:
        file = self._writer.pages_fd
        while size:
            part = channel.receive_into(self._buffer[: min(size, _WINDOW)])
            if not part:
                raise CrError(f"{channel.peer} has ended the connection amidst the pages")
            size -= part
            self._write_all(file, self._buffer[:part])
            self._progress.add(part)

    def _write_all(self, file: int, content: memoryview) -> None:
        try:
            while content:
                content = content[os.write(file, content) :]
        except OSError as error:
            raise CrError(f"{self._path}: its pages cannot be written: {error.strerror}") from error

    def _write_runs(self) -> None:
        self._writer.write(self._runs)
        self._runs.clear()
