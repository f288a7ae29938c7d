"""Dump and restore of descriptors without a tree: the test process is the task, and its descriptors are dumped into
images, and made again from there beside the old ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from engine.dump_context import DumpContext
from engine.images.directory import ImageDir
from engine.kernel.kernel_memory import kernel_memory
from engine.kernel.proc_fdinfo import read_fdinfo
from engine.kernel.proc_stat import read_stat
from engine.objects import KINDS, fown, table
from engine.objects.table import DumpedTables
from engine.options import Options
from engine.restore_context import RestoreContext
from engine.stats import DumpStats
from engine.task.tree import Task
from engine.transport.sink import FileSinks
from tests.objects.terminals import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Cycle:
    """One dump and the restores from it. opts: change it before the step that is to heed it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.opts = Options()
        self.images = ImageDir(str(directory))
        self.directory = directory
        self.dump_context: DumpContext
        self._task = Task(os.getpid(), None)
        self._task.stat = read_stat(os.getpid())
        self._fds: list[int] = []

    def dump(self, *fds: int, also: Any = lambda ctx: None) -> list[Any]:
        """Dump descriptors; their messages. also: called with the context for what is no descriptor."""
        ctx = self.dump_context = DumpContext(self.opts, self.images, FileSinks(self.images), self._task, DumpStats())
        tables = DumpedTables(ctx)
        for fd in fds:
            file = tables.adopt(os.dup(fd), self._task)
            file.fd, file.fdinfo = fd, read_fdinfo(os.getpid(), fd)
        try:
            for file in ctx.files:
                file.kind.refuse(file, ctx)
            for kind in KINDS:
                kind.refuse_late(ctx)
            ctx.problems.raise_if_any("dump")
            also(ctx)
            ctx.problems.raise_if_any("dump")
            messages = []
            for file in ctx.files:
                ctx.file_id(file)
                messages.append(file.kind.dump(file, ctx))
                if file.kind.has_fown:
                    fown.dump(file, messages[-1].fown)
                ctx.add_entry(file.kind, messages[-1])
            for kind in KINDS:
                kind.finish_dump(ctx)
            return messages
        finally:
            for file in ctx.files:
                os.close(file.copy)

    def context(self) -> RestoreContext:
        """A restore of what was dumped, everything read."""
        ctx = RestoreContext(self.opts, self.images)
        ctx.entries = {entry.id: entry for entry in self.dump_context.entries}
        return ctx

    def check(self) -> RestoreContext:
        """A restore that has come as far as its checks. Raises Refused."""
        ctx = self.context()
        table.check(ctx)
        ctx.problems.raise_if_any("restore")
        return ctx

    def restore(self) -> list[int]:
        """Make the dumped descriptors anew, in the order in which they were given to dump()."""
        ctx = self.check()
        try:
            for file in self.dump_context.files:
                ctx.open_file(file.id)
            for file in self.dump_context.files:
                kind, message = ctx.submessage(file.id)
                fd = ctx.opened[file.id]
                kind.fill(message, fd, ctx)
                if kind.has_fown:
                    fown.restore(fd, message.fown, ctx)
            ctx.succeeded()
            fds = [os.dup(ctx.opened[file.id]) for file in self.dump_context.files]
        finally:
            ctx.clean_up()
        ctx.committed()
        self._fds += fds
        return fds

    def close_descriptors(self) -> None:
        """Close what restore() has returned. It is closed after the test anyway."""
        while self._fds:
            os.close(self._fds.pop())

    def close(self) -> None:
        self.images.close()
        self.close_descriptors()


@pytest.fixture
def cycle(tmp_path: Path) -> Iterator[Cycle]:
    """A Cycle with its images in a directory of their own."""
    made = Cycle(tmp_path / "images")
    before = set(os.listdir("/proc/self/fd"))
    yield made
    made.close()
    after = set(os.listdir("/proc/self/fd"))
    assert len(after) <= len(before), "descriptors have been left open"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for the files that are dumped."""
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def look_into_the_kernel() -> None:
    """What that takes stays open ever after."""
    kernel_memory()


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, from which all private directories must be gone after the test."""
    monkeypatch.chdir(place)
    yield place
    assert not [name for name in os.listdir(place) if name.startswith(".crucible")]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pseudo terminal, as the kernel makes it."""
    made = Pair()
    yield made
    made.close()
