"""What the parts of a restore share: options, images, the tree to be, descriptions made so far, problems found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError, Problems
from engine.parts import Parts
from engine.plugins import Plugins
from engine.progress import Progress
from engine.task.tree import DEAD, STOPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.images.directory import ImageDir
    from engine.options import Options
    from engine.tape.channel import Channel
    from engine.tape.stub import Stub

Message = Any


class RestoredThread:
    """A thread to be. core is its core_entry; the leader's is RestoredTask.core."""

    def __init__(self, tid: int, core: Message) -> None:
        self.tid = tid
        self.core = core
        self.stub: Stub


class RestoredTask:
    """A task to be.

    core, ids, mm, fs   its messages, None where a zombie or helper has none
    fdinfo              its fdinfo_entry messages, ascending by fd
    threads             those that live, leader first
    dead_leader         the leader that is to be dead while others live, None for any other
    stub                what stands for the task until it is let go; the leader's
    """

    def __init__(self, pid: int, pgid: int, sid: int, parent: RestoredTask | None) -> None:
        self.pid = pid
        self.pgid = pgid
        self.sid = sid
        self.parent = parent
        self.children: list[RestoredTask] = []
        self.threads: list[RestoredThread] = []
        self.dead_leader: RestoredThread | None = None
        self.core: Message = None
        self.ids: Message = None
        self.mm: Message = None
        self.fs: Message = None
        self.fdinfo: list[Message] = []
        self.stub: Stub

    @property
    def is_dead(self) -> bool:
        """Whether it is to be a zombie."""
        return self.core is not None and self.core.tc.task_state == DEAD and self.dead_leader is None

    @property
    def is_stopped(self) -> bool:
        """Whether it is to be stopped by a signal."""
        tc = self.core.tc
        return bool(tc.task_state == STOPPED or (self.dead_leader and tc.stop_signo))

    @property
    def all_threads(self) -> list[RestoredThread]:
        """The leader first even if it is to be dead."""
        return [*([self.dead_leader] if self.dead_leader else []), *self.threads]


class RestoreContext(Parts):
    """State of one restore.

    tasks      pstree order
    entries    files.img by id
    pid        the engine's own
    problems   everything a restore would trip over; raised together before anything is created
    plugins    between their init and fini; missing_plugins: names of others that are needed
    progress   of the pages that are read
    lsm        whose labels the images have, see kernel/lsm.py
    channel    how stubs get descriptors, once there are stubs
    """

    def __init__(self, opts: Options, images: ImageDir, plugins: Plugins | None = None) -> None:
        super().__init__()
        self.opts = opts
        self.images = images
        self.pid = os.getpid()
        self.problems = Problems()
        self.seccomp_filters: list[Message] = []
        self.lsm = 0
        self.plugins = plugins or Plugins()
        self.progress = Progress("Reading memory")
        self.missing_plugins: set[str] = set()
        self.tasks: list[RestoredTask] = []
        self.entries: dict[int, Message] = {}
        self.channel: Channel
        self.opened: dict[int, int] = {}
        self._opening: set[int] = set()
        self._at_end: list[Callable[[], None]] = []
        self._on_success: list[Callable[[], None]] = []
        self._names: list[Callable[[], None]] = []
        self._after_commit: list[Callable[[], None]] = []

    def at_end(self, clean_up: Callable[[], None]) -> None:
        """Have something done when the restore ends, well or badly: a temporary name removed."""
        self._at_end.append(clean_up)

    def on_success(self, finish: Callable[[], None]) -> None:
        """Have something done when all tasks are complete and none runs yet: seals, owners of files."""
        self._on_success.append(finish)

    def on_names(self, finish: Callable[[], None]) -> None:
        """Have the name of a file changed for good, which nothing that may fail is to follow."""
        self._names.append(finish)

    def succeeded(self) -> None:
        """All tasks are complete."""
        for finish in (*self._on_success, *self._names):
            finish()

    def after_commit(self, finish: Callable[[], None]) -> None:
        """Have something done when the restore can't fail any more: names removed that only a restore needs."""
        self._after_commit.append(finish)

    def committed(self) -> None:
        """The restore can't fail any more. No task runs yet."""
        for finish in self._after_commit:
            finish()

    def clean_up(self) -> None:
        """The restore is over, and the engine's descriptors with it. All is tried, then the first OSError is raised."""
        failed: OSError | None = None
        while self._at_end:
            try:
                self._at_end.pop()()
            except OSError as error:
                failed = failed or error
        for fd in self.opened.values():
            os.close(fd)
        self.opened.clear()
        if failed:
            raise failed

    @property
    def living(self) -> list[RestoredTask]:
        """All but the zombies."""
        return [task for task in self.tasks if task.ids is not None]

    def task(self, pid: int) -> RestoredTask:
        """The task of a pid. Raises CrError when the images have none."""
        for task in self.tasks:
            if task.pid == pid:
                return task
        raise CrError(f"images name task {pid}, but the tree has none; they are damaged")

    def check_path(self, file_id: int, image: str) -> None:
        """Add to the problems that an image wants to have a file mapped, executed or entered which is none for that."""
        from engine.objects import KIND_BY_TYPE

        entry, damaged = self.entries.get(file_id), "the image is damaged"
        if entry is None:
            # All would be missing when files.img itself can't be read, which stands among the problems then.
            if self.entries:
                self.problems.add(f"{image}: names file {file_id}, which files.img lacks", remedy=damaged)
        elif entry.type in KIND_BY_TYPE and not KIND_BY_TYPE[entry.type].has_path:
            self.problems.add(f"{image}: names file {file_id}, which has no path", remedy=damaged)

    def submessage(self, file_id: int) -> tuple[Any, Message]:
        """(kind, message) of a description. Raises CrError for an id that files.img lacks."""
        from engine.objects import KIND_BY_TYPE

        entry = self.entries.get(file_id)
        if entry is None:
            raise CrError(f"files.img has no file {file_id}, which other images refer to; it is damaged")
        kind = KIND_BY_TYPE.get(entry.type)
        if kind is None:
            raise CrError(f"files.img: file {file_id} has type {entry.type}, which this engine does not restore")
        return kind, getattr(entry, kind.field)

    def open_file(self, file_id: int) -> int:
        """The engine's descriptor of a description, made now if it does not exist yet.

        Raises CrError when descriptions need one another in a circle that no order can satisfy.
        """
        if file_id not in self.opened:
            kind, message = self.submessage(file_id)
            if file_id in self._opening:
                raise CrError(f"files.img: file {file_id} depends on itself; the image is damaged")
            self._opening.add(file_id)
            self.opened[file_id] = kind.open(message, self)
            self._opening.discard(file_id)
        return self.opened[file_id]
