"""What an open file is to dump and restore, and what a module in objects/ has to offer.

An open file *description* (struct file) is dumped once, however many descriptors of however many tasks lead to it, and
is made once on restore, by the engine, which then hands it out. What the kernel ties to the task rather than to the
description (epoll targets, POSIX locks, leases) is done by the task itself, on its tape, once its table is complete.

Dump, in this order:
    recognise(file)           is it of this kind? By link text, stat and fdinfo only.
    refuse(file, ctx)         add to ctx.problems what stands against dumping it. Nothing has been changed so far.
    refuse_late(ctx)          once, when all descriptions are known: what stands against those that belong together.
    dump(file, ctx)           the kind's message (reg_file_entry, pipe_entry…), complete but for its owner (fown).
    finish_dump(ctx)          once, after all descriptions: images that hold queued data, diagnostics over all.

Restore:
    answers_for(entry, ctx)   its path's REG entry, if that is this kind's own matter.
    check(entry, ctx)         add to ctx.problems what a restore would trip over. Nothing has been created so far.
    check_late(ctx)           once, when all descriptions have been checked: what is wrong with them together.
    open(entry, ctx)          make the description; returns a descriptor of the engine, close-on-exec. May call
                              ctx.open_file(id) for a description it depends on: order comes from need.
    fill(entry, fd, ctx)      after every description exists: queued data, shutdown, registrations.
    in_task(entry, number, task, tape, ctx)
                              after the task has all its descriptors: add records to its tape. `number` is the
                              descriptor; called once for each description, in the first task that holds it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.kernel.proc_fdinfo import FdInfo
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape
    from engine.task.tree import Task

Message = Any


class OpenFile:
    """A description met on dump, by one of its descriptors.

    fd       its number in `task`
    copy     the engine's own descriptor of the same description (pidfd_getfd). Its offset is the task's offset.
    stat     fstat(copy)
    link     text of /proc/PID/fd/FD
    fdinfo   /proc/PID/fdinfo/FD: pos, flags (O_CLOEXEC if the descriptor is close-on-exec), mnt_id, ino, lines
    id       its number in files.img
    """

    __slots__ = ("copy", "fd", "fdinfo", "id", "kind", "link", "stat", "task")

    def __init__(self, task: Task, fd: int, copy: int, stat: os.stat_result, link: str, fdinfo: FdInfo) -> None:
        self.task = task
        self.fd = fd
        self.copy = copy
        self.stat = stat
        self.link = link
        self.fdinfo = fdinfo
        self.id = 0
        self.kind: FileKind

    @property
    def is_in_flight(self) -> bool:
        """Whether no task has a descriptor of it: it lies in the queue of a socket."""
        return self.fd < 0

    @property
    def flags(self) -> int:
        """Open flags as images have them: close-on-exec is the descriptor's, not the description's."""
        return self.fdinfo.flags & ~os.O_CLOEXEC

    def __str__(self) -> str:
        return f"descriptor {self.fd} ({self.link})"


class FileKind:
    """A kind of open file. Subclasses override what applies; one instance of each stands in objects.KINDS."""

    type: int
    """fd_types number in images."""
    field: str
    """Name of its submessage in file_entry."""
    links: tuple[str, ...] = ()
    """Link texts that tell the kind, where nothing else is needed for that."""
    has_fown = True
    """Whether its message has an `fown` (owner and signal of F_SETOWN, F_SETSIG), which objects/fown.py fills in."""

    has_path = False
    """Whether files of it can be mapped, executed or be somebody's directory: open_mapped() opens them."""

    def recognise(self, file: OpenFile) -> bool:
        return file.link in self.links

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        """Nothing against it."""

    def refuse_late(self, ctx: DumpContext) -> None:
        """Nothing against them together."""

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        raise NotImplementedError

    def finish_dump(self, ctx: DumpContext) -> None:
        """Nothing to add."""

    def answers_for(self, entry: Message, ctx: RestoreContext) -> int | None:
        """The number of a REG entry that stands for no file which must be there now: this kind makes or checks it."""
        return None

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        """Nothing that could be wrong."""

    def check_late(self, ctx: RestoreContext) -> None:
        """Nothing wrong with them together."""

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        raise NotImplementedError

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        """Nothing to fill."""

    def in_task(self, entry: Message, number: int, task: RestoredTask, tape: Tape, ctx: RestoreContext) -> None:
        """Nothing that is the task's."""

    def open_mapped(self, entry: Message, mode: int, ctx: RestoreContext) -> int:
        """Open the file for a mapping of it: mode is O_RDONLY, O_WRONLY or O_RDWR. The caller closes the descriptor."""
        raise NotImplementedError
