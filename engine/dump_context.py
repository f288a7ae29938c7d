"""What the parts of a dump share: options, images, the tree, numbers that are given out, problems found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from engine.errors import Problems
from engine.parts import Parts
from engine.plugins import Plugins
from engine.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_twins import Twins
    from engine.images.directory import ImageDir
    from engine.objects.base import FileKind, OpenFile
    from engine.objects.table import DumpedTables
    from engine.options import Options
    from engine.stats import DumpStats
    from engine.task.tree import Task
    from engine.task.watch import Parent, Watch
    from engine.transport.sink import PageSinks

Message = Any


class DumpContext(Parts):
    """State of one dump.

    sinks      where page maps go
    tasks      pstree order, zombies included
    problems   everything that stands against the dump; raised together before anything is changed
    files      descriptions in the order of their ids
    progress   of the pages that are written
    twins      of the tasks, which run on before their memory is written (--snapshot)
    parent     the images that these build on, and watch, how changed memory is found (--prev-images-dir, --track-mem)
    plugins    between their init and fini
    uptime     of the machine when the tree had been frozen, in microseconds
    entries    file_entry messages for files.img
    table      the descriptor tables
    seccomp_filters   index by (index of the filter installed before, program, flags)
    synced_filters    indices of those that all threads of a task have
    """

    def __init__(
        self, opts: Options, images: ImageDir, sinks: PageSinks, root: Task, stats: DumpStats,
        parent: Parent | None = None, watch: Watch | None = None, plugins: Plugins | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.opts = opts
        self.images = images
        self.sinks = sinks
        self.root = root
        self.tasks = list(root.walk())
        self.stats = stats
        self.parent = parent
        self.watch = watch
        self.plugins = plugins or Plugins()
        self.twins: Twins | None = None
        self.progress = Progress("Writing memory")
        self.uptime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        self.problems = Problems()
        self.files: list[OpenFile] = []
        self.entries: list[Message] = []
        self.table: DumpedTables
        self.seccomp_filters: dict[tuple[int, bytes, int], int] = {}
        self.synced_filters: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        self._last_file_id = 0

    def new_file_id(self) -> int:
        """The next number in files.img: one counter for descriptions, companions, link remaps and mapped files."""
        self._last_file_id += 1
        return self._last_file_id

    def file_id(self, file: OpenFile) -> int:
        """The number of a description in files.img, given out when it is first asked for."""
        if not file.id:
            file.id = self.new_file_id()
        return file.id

    def on_failure(self, undo: Callable[[], None]) -> None:
        """Have something taken back if the dump fails: what was made outside of the images."""
        self._undo.append(undo)

    def undo(self) -> None:
        """The dump has failed: take everything back, last first."""
        while self._undo:
            self._undo.pop()()

    def add_entry(self, kind: FileKind, message: Message) -> None:
        """Put a message into files.img. It has its id already."""
        from engine.images.schema import message as message_class

        entry = message_class("file_entry")()
        entry.type = kind.type
        entry.id = message.id
        getattr(entry, kind.field).CopyFrom(message)
        self.entries.append(entry)
