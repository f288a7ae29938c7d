"""Descriptor tables: fdinfo-ID.img and files.img on dump, and on restore the way of every description to its numbers.

On dump the engine takes a copy of each description (pidfd_getfd) and finds those that are the same by kcmp, which
orders them: each is looked up among the known ones by bisection, whatever their number.

On restore a stub has one descriptor, the channel, at a number beyond all others. Descriptions arrive over it in the
order of the numbers they shall have, so that they land on 0, 1, 2, …, each at or below its number; moved from the last
to the first, none is in the way of another.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import set_text
from engine.kernel.kcmp import EQUAL, GREATER, KCMP_FILE, kcmp
from engine.kernel.libc import NR, syscall
from engine.kernel.proc_fdinfo import read_fdinfo
from engine.kernel.procfs import list_fds
from engine.objects import KIND_BY_TYPE, KINDS, fown, kind_of, socket_label
from engine.objects.base import OpenFile
from engine.objects.locks import DumpedLocks, RestoredLocks
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.dump_context import DumpContext
    from engine.images.reader import ImageReader
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.channel import Channel
    from engine.task.tree import Task

Message = Any

_FD_CLOEXEC = 1
_F_SETFD = 2
_HIGHEST_FD = 1 << 30
"""The most that sysctl_nr_open(5) can be set to, about."""
_AT_ONCE = 200


class DumpedTables:
    """All descriptor tables of a tree and the descriptions in them."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._tables: dict[int, list[tuple[int, bool, OpenFile]]] = {}
        self._files_ids: dict[int, int] = {}
        self._sorted: dict[tuple[int, ...], list[OpenFile]] = {}
        self._own_pid = os.getpid()
        ctx.table = self

    def collect(self, task: Task, files_id: int) -> None:
        """Read a task's table, unless it shares one that was read already."""
        self._files_ids[task.pid] = files_id
        if files_id in self._tables:
            return
        table = self._tables[files_id] = []
        for number in sorted(list_fds(task.proc)):
            copy = syscall(NR["pidfd_getfd"], task.pidfd, number, 0)
            info = read_fdinfo(task.proc, number)
            link = os.readlink(f"/proc/{task.proc}/fd/{number}")
            found = self._identify(OpenFile(task, number, copy, os.fstat(copy), link, info))
            table.append((number, bool(info.flags & os.O_CLOEXEC), found))

    def adopt(self, copy: int, task: Task) -> OpenFile:
        """The description behind one of the engine's own descriptors, known or new: what came out of a socket's
        queue. The descriptor is the table's from now on."""
        link = os.readlink(f"/proc/self/fd/{copy}")
        return self._identify(OpenFile(task, -1, copy, os.fstat(copy), link, read_fdinfo(self._own_pid, copy)))

    def _identify(self, file: OpenFile) -> OpenFile:
        """The known description that this one is, or this one, which is known from now on."""
        known = self._sorted.setdefault((file.stat.st_dev, file.stat.st_ino), [])
        place, same = _bisect(known, lambda fd: kcmp(self._own_pid, self._own_pid, KCMP_FILE, fd, file.copy))
        if same:
            os.close(file.copy)
            return known[place]
        known.insert(place, file)
        file.kind = kind_of(file)
        self._ctx.files.append(file)
        return file

    def find(self, dev: int, ino: int, compare: Callable[[int], int]) -> OpenFile | None:
        """The known description on this inode for which compare(copy) says EQUAL, in the order of kcmp."""
        known = self._sorted.get((dev, ino), [])
        place, same = _bisect(known, compare)
        return known[place] if same else None

    def number_of(self, task: Task, file: OpenFile, preferred: int) -> int | None:
        """A descriptor of a description in a task's table, the preferred one if that is one; None if it has none."""
        table = self._tables.get(self._files_ids.get(task.pid, -1), [])
        numbers = [number for number, _, held in table if held is file]
        return preferred if preferred in numbers else min(numbers, default=None)

    def descriptors(self) -> Iterator[tuple[Task, int, int, OpenFile]]:
        """Every descriptor of every table once: (the first task with the table, files_id, number, description)."""
        owners = {self._files_ids[task.pid]: task for task in reversed(self._ctx.tasks) if task.pid in self._files_ids}
        for files_id, table in self._tables.items():
            for number, _, file in table:
                yield owners[files_id], files_id, number, file

    def refuse(self) -> None:
        """Let every kind say what stands against its descriptions."""
        for file in self._ctx.files:
            file.kind.refuse(file, self._ctx)
        for kind in KINDS:
            kind.refuse_late(self._ctx)
        self._ctx.part(DumpedLocks).refuse()

    def describe(self) -> None:
        """Make the message of every description. Kinds may adopt more while this goes on: files in flight."""
        done = 0
        while done < len(self._ctx.files):
            file = self._ctx.files[done]
            self._ctx.file_id(file)
            message = file.kind.dump(file, self._ctx)
            if file.kind.has_fown:
                fown.dump(file, message.fown)
            self._ctx.add_entry(file.kind, message)
            done += 1

    def write(self) -> None:
        """files.img, fdinfo-ID.img of every table, and the images that the kinds keep beside them."""
        from engine.images.schema import message

        for kind in KINDS:
            kind.finish_dump(self._ctx)
        self._ctx.part(DumpedLocks).write()
        self._ctx.images.write("FILES", _in_order(self._ctx.entries))
        for files_id, table in self._tables.items():
            entries = []
            for number, cloexec, file in table:
                flags = _FD_CLOEXEC if cloexec else 0
                entry = message("fdinfo_entry")(id=file.id, flags=flags, type=file.kind.type, fd=number)
                if label := socket_label.dumped(file, self._ctx):
                    set_text(entry, "xattr_security_selinux", label)
                entries.append(entry)
            self._ctx.images.write("FDINFO", entries, files_id)

    def close(self) -> None:
        """Give back the copies."""
        for file in self._ctx.files:
            os.close(file.copy)


def _in_order(entries: list[Message]) -> list[Message]:
    """files.img by number, but of two unix sockets with each other as peers the one with the higher number first.

    criu writes them so. Of two ends in one task it makes the pair for the one that stands last and passes the other
    one on, where criu 3.17 stumbles over a further descriptor of the latter. It is rather the first end that has some.
    """
    sockets = {entry.usk.ino: entry for entry in entries if entry.HasField("usk")}

    def place(entry: Message) -> tuple[int, int]:
        peer = sockets.get(entry.usk.peer)
        mutual = peer is not None and entry.HasField("usk") and peer.usk.peer == entry.usk.ino
        return (min(entry.id, peer.id), -entry.id) if peer is not None and mutual else (entry.id, 0)

    return sorted(entries, key=place)


def _bisect(known: list[OpenFile], compare: Callable[[int], int]) -> tuple[int, bool]:
    """Where in a sorted list a description belongs, and whether it is there. compare: see DumpedTables.find()."""
    low, high = 0, len(known)
    while low < high:
        middle = (low + high) // 2
        order = compare(known[middle].copy)
        if order == EQUAL:
            return middle, True
        if order == GREATER:
            high = middle
        else:
            low = middle + 1
    return low, False


# Restore


def read(ctx: RestoreContext) -> None:
    """files.img and the tables of all tasks. What can't be read is a problem."""
    with ctx.problems, ctx.images.reader("FILES") as reader:
        for entry in reader:
            _check_entry(entry, ctx, reader)
            ctx.entries[entry.id] = entry
    tables: dict[int, list[Message]] = {}
    for task in ctx.tasks:
        if task.ids is None:
            continue
        files_id = task.ids.files_id
        if files_id not in tables:
            tables[files_id] = []
            with ctx.problems:
                tables[files_id] = sorted(ctx.images.read("FDINFO", files_id), key=lambda entry: int(entry.fd))
                _check_table(files_id, tables[files_id], ctx)
        task.fdinfo = tables[files_id]


def _check_entry(entry: Message, ctx: RestoreContext, reader: ImageReader) -> None:
    """A description must be of a kind we know, and have its number twice, here and there."""
    if entry.id in ctx.entries:
        raise reader.error(f"it has two files {entry.id}")
    kind = KIND_BY_TYPE.get(entry.type)
    if kind is None:
        ctx.problems.add(f"files.img: file {entry.id} has type {entry.type}, which this engine does not restore")
    elif not entry.HasField(kind.field) or getattr(entry, kind.field).id != entry.id:
        raise reader.error(f"file {entry.id} lacks its {kind.field} part, or that is of another file")


def _check_table(files_id: int, table: list[Message], ctx: RestoreContext) -> None:
    name = f"fdinfo-{files_id}.img"
    numbers = [entry.fd for entry in table]
    if len(set(numbers)) != len(numbers) or (numbers and numbers[-1] > _HIGHEST_FD):
        raise CrError(f"{name}: a descriptor number is there twice or is impossible; the image is damaged")
    for entry in table:
        if ctx.entries and entry.id not in ctx.entries:
            what = f"{name}: descriptor {entry.fd} is of file {entry.id}, which files.img lacks"
            ctx.problems.add(what, remedy="the image is damaged")


def check(ctx: RestoreContext) -> None:
    """Let every kind say what stands against restoring its descriptions."""
    known = [(KIND_BY_TYPE[e.type], e) for e in ctx.entries.values() if e.type in KIND_BY_TYPE]
    answered = {kind.answers_for(getattr(entry, kind.field), ctx) for kind, entry in known}
    for kind, entry in known:
        if entry.id not in answered:
            with ctx.problems:
                kind.check(getattr(entry, kind.field), ctx)
    for kind in KINDS:
        with ctx.problems:
            kind.check_late(ctx)
    with ctx.problems:
        ctx.part(RestoredLocks).check()


def channel_number(ctx: RestoreContext) -> int:
    """A number for the channel that no table uses and that lies beyond what any of them receives."""
    used = {entry.fd for task in ctx.tasks for entry in task.fdinfo}
    number = max([len(task.fdinfo) for task in ctx.tasks] + [_AT_ONCE])
    while number in used:
        number += 1
    return number


def open_all(ctx: RestoreContext) -> None:
    """Make every description, then fill them."""
    needed = sorted({entry.id for task in ctx.tasks for entry in task.fdinfo})
    for file_id in needed:
        ctx.open_file(file_id)
    filled: set[int] = set()
    while todo := sorted(set(ctx.opened) - filled):
        for file_id in todo:
            kind, message = ctx.submessage(file_id)
            kind.fill(message, ctx.opened[file_id], ctx)
            if kind.has_fown:
                fown.restore(ctx.opened[file_id], message.fown, ctx)
            filled.add(file_id)


def hand_out(task: RestoredTask, ctx: RestoreContext, channel: Channel) -> None:
    """Complete a task's table. The channel stays open in it."""
    entries = task.fdinfo
    channel.send(task.stub, [ctx.opened[entry.id] for entry in entries])
    tape = Tape()
    for arrived in reversed(range(len(entries))):
        entry = entries[arrived]
        cloexec = entry.flags & _FD_CLOEXEC
        if entry.fd != arrived:
            tape.call("dup3", arrived, entry.fd, os.O_CLOEXEC if cloexec else 0)
            tape.call("close", arrived)
        elif cloexec:
            tape.call("fcntl", arrived, _F_SETFD, _FD_CLOEXEC)
    task.stub.run(tape)


def finish_in_task(task: RestoredTask, ctx: RestoreContext, done: set[int]) -> None:
    """What the kernel ties to the task: done once for each description, in the first task that has it."""
    tape = Tape()
    for entry in task.fdinfo:
        if entry.id in done:
            continue
        done.add(entry.id)
        kind, message = ctx.submessage(entry.id)
        kind.in_task(message, entry.fd, task, tape, ctx)
    verify_locks = ctx.part(RestoredLocks).in_task(task, tape)
    task.stub.run(tape)
    verify_locks()
