"""Epoll instances: epoll(7).

A watch belongs to an open file description and to the number by which it was added. It lives as long as the
description does, whatever becomes of the number: that may be closed, or lead to another file, and several watches may
have the same one. So the number says nothing about what is watched; kcmp(2) with KCMP_EPOLL_TFD does, which compares
the n-th watch under a number with a descriptor.

Images keep the number where the watched file is found in the table of the first task that holds the instance. When the
watch was added by another number, `watched_as` has that; `id` is the watched file's number in files.img, 0 in images
of CRIU.

On restore a task adds the watches itself, since some files, signalfds for one, are watched on behalf of the task that
adds them (fs/signalfd.c, signalfd_poll). For a watch by another number the watched file stands in at that number for
the moment. An instance that no task holds, being in flight, gets its watches from the root task's stub before that has
any descriptors.
"""

from __future__ import annotations

import os
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.kernel.kcmp import kcmp_epoll
from engine.kernel.libc import MACHINE, NR, syscall
from engine.kernel.proc_fdinfo import decode_sdev, fdinfo_epoll
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext, RestoredTask

Message = Any

_EPOLL_CTL_ADD = 1
_FD_CLOEXEC = 1
_F_DUPFD_CLOEXEC = 1030
# struct epoll_event has no padding on x86-64, so that 32-bit programs have the same one.
_EVENT = struct.Struct("<IQ" if MACHINE == "x86_64" else "<I4xQ")


class Epoll(FileKind):
    """EVENTPOLL."""

    type = 7
    field = "epfd"
    links = ("anon_inode:[eventpoll]",)

    def refuse_late(self, ctx: DumpContext) -> None:
        for file in ctx.files:
            if file.kind is self:
                ctx.part(_Watches).of[file] = _watches(file, ctx)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        entry = message("eventpoll_file_entry")(id=file.id, flags=file.flags)
        for watch in ctx.part(_Watches).of[file]:
            number = watch.found_at if watch.found_at is not None else watch.number
            item = entry.tfd.add(id=ctx.file_id(watch.file), tfd=number, events=watch.events, data=watch.data)
            if number != watch.number:
                item.watched_as = watch.number
            item.dev, item.inode, item.pos = watch.file.stat.st_dev, watch.file.stat.st_ino, watch.pos
        return entry

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        for item in _items(entry, ctx):
            if item.id and item.id not in ctx.entries:
                what = f"epoll (file {entry.id}): watches file {item.id}, which files.img lacks"
                ctx.problems.add(what, remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = syscall(NR["epoll_create1"], os.O_CLOEXEC)
        set_flags(fd, entry.flags)
        return fd

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        for item in _items(entry, ctx):
            if item.id:
                ctx.open_file(item.id)
        if not any(held.id == entry.id for task in ctx.tasks for held in task.fdinfo):
            root = ctx.tasks[0]
            (number,) = ctx.channel.send(root.stub, [fd])
            tape = Tape()
            _Registrar(root, {number: entry.id}, tape, ctx).add_all(entry, number)
            tape.call("close", number)
            root.stub.run(tape)

    def in_task(self, entry: Message, number: int, task: RestoredTask, tape: Tape, ctx: RestoreContext) -> None:
        table = {held.fd: held.id for held in task.fdinfo}
        _Registrar(task, table, tape, ctx).add_all(entry, number)


# Dump


class _Watch(NamedTuple):
    """file: what is watched; number: by which it was added; found_at: where the holder of the instance has it."""

    file: OpenFile
    number: int
    found_at: int | None
    events: int
    data: int
    pos: int


class _Watches:
    """What each instance watches."""

    def __init__(self, _: DumpContext) -> None:
        self.of: dict[OpenFile, list[_Watch]] = {}


def _watches(epoll: OpenFile, ctx: DumpContext) -> list[_Watch]:
    """The watches in the kernel's order. Those of files that no task of the tree has are added to the problems."""
    seen: dict[int, int] = {}
    found = []
    for target in fdinfo_epoll(epoll.fdinfo):
        index = seen.get(target.tfd, 0)
        seen[target.tfd] = index + 1
        compare = partial(_compare, epoll.copy, target.tfd, index)
        file = ctx.table.find(decode_sdev(target.sdev), target.ino, compare)
        if file is None:
            ctx.problems.add(
                f"{epoll}: watches a file that was descriptor {target.tfd} once and that no task of the tree has now",
                epoll.task.pid,
                "dump the task that has it too, or close it there",
            )
            continue
        found_at = ctx.table.number_of(epoll.task, file, target.tfd)
        found.append(_Watch(file, target.tfd, found_at, target.events, target.data, target.pos))
    return found


def _compare(epoll: int, number: int, index: int, fd: int) -> int:
    """One of the engine's descriptors with what one of its epoll instances watches."""
    return kcmp_epoll(os.getpid(), fd, os.getpid(), epoll, number, index)


# Restore


class _OldItems:
    """Watches in old images, which have them in a file of their own: `id` is the epoll instance's there."""

    def __init__(self, ctx: RestoreContext) -> None:
        self.by_instance: dict[int, list[Message]] = {}
        for item in ctx.images.read("EVENTPOLL_TFD"):
            items = self.by_instance.setdefault(item.id, [])
            item.id = 0
            items.append(item)


def _items(entry: Message, ctx: RestoreContext) -> list[Message]:
    """The watches of an instance."""
    return [*entry.tfd, *ctx.part(_OldItems).by_instance.get(entry.id, ())]


class _Registrar:
    """Adds watches from within a task.

    table   what its descriptors are: number -> id in files.img
    tape    to be run in it
    """

    def __init__(self, task: RestoredTask, table: dict[int, int], tape: Tape, ctx: RestoreContext) -> None:
        self._task = task
        self._table = table
        self._tape = tape
        self._ctx = ctx
        self._close_on_exec = {held.fd for held in task.fdinfo if held.flags & _FD_CLOEXEC}
        self._numbers = {file_id: number for number, file_id in table.items()}

    def add_all(self, entry: Message, epoll: int) -> None:
        """All watches of an instance. epoll: its number in the task."""
        items = [(self._target(entry, item), item) for item in _items(entry, self._ctx)]
        lent = self._borrow([file_id for file_id, _ in items if file_id not in self._numbers])
        for file_id, item in items:
            number = item.watched_as if item.HasField("watched_as") else item.tfd
            event = self._tape.buffer(_EVENT.pack(item.events, item.data))
            here = self._table.get(number) == file_id
            aside = None if here else self._stand_in(self._numbers[file_id], number)
            instance = aside if aside is not None and number == epoll else epoll
            self._tape.call("epoll_ctl", instance, _EPOLL_CTL_ADD, number, event)
            if not here:
                self._put_back(number, aside)
        for number in lent:
            self._tape.call("close", number)

    def _target(self, entry: Message, item: Message) -> int:
        """The file that a watch is for; images of CRIU have the number only."""
        file_id: int = item.id or self._table.get(item.tfd, 0)
        if not file_id:
            what = f"epoll (file {entry.id}) watches descriptor {item.tfd}, which is not open there"
            raise CrError(f"task {self._task.pid}: {what}; the image is damaged")
        return file_id

    def _borrow(self, file_ids: list[int]) -> list[int]:
        """Have descriptors of files that the task has not: their numbers, to be closed afterwards."""
        wanted = list(dict.fromkeys(file_ids))
        numbers = self._ctx.channel.send(self._task.stub, [self._ctx.open_file(file_id) for file_id in wanted])
        for number, file_id in zip(numbers, wanted, strict=True):
            self._table[number] = file_id
            self._numbers[file_id] = number
        return numbers

    def _stand_in(self, source: int, number: int) -> Any:
        """Let a number lead to the file that `source` is. The result keeps what it led to before, if to anything."""
        aside = None
        if number in self._table or number == self._ctx.channel.number:
            aside = self._tape.call("fcntl", number, _F_DUPFD_CLOEXEC, 0)
        self._tape.call("dup3", source, number, os.O_CLOEXEC)
        return aside

    def _put_back(self, number: int, aside: Any) -> None:
        if aside is None:
            self._tape.call("close", number)
            return
        self._tape.call("dup3", aside, number, os.O_CLOEXEC if number in self._close_on_exec else 0)
        self._tape.call("close", aside)
