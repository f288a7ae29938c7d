"""File locks and leases: filelocks.img.

fdinfo shows at each descriptor the locks that were taken through its description (fs/locks.c, show_fd_locks): flock,
open file description locks and leases in all tables, POSIX locks, which belong to a table, only in that one. All are
taken again by a task that has the descriptor, so that the kernel shows its pid.

A freeze interrupts a task that waits for a lock, and the wait starts again after a restore. Somebody outside of the
tree who waits for a lock of the tree would get it when the tree is gone: that is refused.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.kernel.proc_fdinfo import fdinfo_locks, read_fdinfo
from engine.kernel.proc_locks import read_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.dump_context import DumpContext
    from engine.kernel.proc_locks import FileLock
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Call, Tape
    from engine.task.tree import Task

Message = Any

_POSIX, _FLOCK, _OFD, _LEASE = 1, 2, 4, 8
_KINDS = {"POSIX": _POSIX, "FLOCK": _FLOCK, "OFDLCK": _OFD, "LEASE": _LEASE}
_NAMES = {_POSIX: "POSIX lock", _FLOCK: "flock lock", _OFD: "open file description lock", _LEASE: "lease"}
_ACCESS = {"READ": fcntl.F_RDLCK, "WRITE": fcntl.F_WRLCK, "UNLCK": fcntl.F_UNLCK}
_BREAKING = 4
_F_OFD_SETLK, _F_SETOWN = 37, 8
_STRUCT_FLOCK = struct.Struct("<hh4xqqi4x")
_MAX_OFFSET = (1 << 63) - 1


class Held(NamedTuple):
    """A lock that a task of the tree has."""

    task: Task
    fd: int
    file: OpenFile
    lock: FileLock


class DumpedLocks:
    """The locks of a tree.

    leased  inode numbers of files with a lease
    """

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._held: dict[tuple[Any, ...], Held] = {}
        for task, files_id, fd, file in ctx.table.descriptors():
            own = task is file.task and fd == file.fd
            if not own and not file.link.startswith("/"):
                continue  # sockets and the like are not locked, and may be many
            for lock in fdinfo_locks(file.fdinfo if own else read_fdinfo(task.proc, fd)):
                self._add(Held(task, fd, file, lock), files_id)
        self.leased = {held.lock.ino for held in self if held.lock.kind == "LEASE"}

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def _add(self, found: Held, files_id: int) -> None:
        """Note a lock, for the task that took it rather than for others that have the description too."""
        lock = found.lock
        if lock.kind not in _KINDS:
            return
        key = (lock.kind, id(found.file), files_id if lock.kind == "POSIX" else 0, lock.start, lock.end)
        if key not in self._held or lock.pid == found.task.pid:
            self._held[key] = found

    def refuse(self) -> None:
        """Add to the problems locks that the user does not expect, and those that others wait for."""
        ctx = self._ctx
        if not ctx.opts.file_locks:
            for held in self:
                what = f"{held.file}: there is a {_NAMES[_KINDS[held.lock.kind]]} on it"
                ctx.problems.add(what, held.task.pid, "--file-locks dumps it")
            return
        ours = {(held.lock.dev, held.lock.ino): held for held in self}
        tree = {task.pid for task in ctx.tasks}
        for lock in read_locks() if ours else ():
            wanted = ours.get((lock.dev, lock.ino))
            if lock.blocked and wanted and lock.pid not in tree:
                what = f"{wanted.file}: process {lock.pid} outside of the tree waits for a lock on it"
                ctx.problems.add(what, wanted.task.pid, "end that process")

    def write(self) -> None:
        """filelocks.img."""
        from engine.images.schema import message

        entries = []
        for held in self:
            lock = held.lock
            kind = _ACCESS[lock.access] | (_BREAKING if lock.mode == "BREAKING" else 0)
            length = 0 if lock.end is None else lock.end - lock.start + 1
            entry = message("file_lock_entry")(flag=_KINDS[lock.kind], type=kind, pid=held.task.pid, fd=held.fd)
            entry.start, entry.len = lock.start, length
            entries.append(entry)
        self._ctx.images.write("FILE_LOCKS", entries)


# Restore


class RestoredLocks:
    """The locks to take."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._entries = list(ctx.images.read("FILE_LOCKS")) if ctx.opts.file_locks else []

    def check(self) -> None:
        """Add to the problems locks that can't be."""
        for entry in self._entries:
            if self._file_id(entry) is None:
                what = f"filelocks.img: descriptor {entry.fd} is not in the table of task {entry.pid}"
                self._ctx.problems.add(what, remedy="the image is damaged")
            elif entry.flag not in _NAMES or entry.start < 0 or not 0 <= entry.len <= _MAX_OFFSET - entry.start:
                self._ctx.problems.add("filelocks.img: there is an impossible lock", entry.pid, "the image is damaged")

    def _file_id(self, entry: Message) -> int | None:
        for task in self._ctx.tasks:
            if task.pid == entry.pid:
                return next((fdinfo.id for fdinfo in task.fdinfo if fdinfo.fd == entry.fd), None)
        return None

    def in_task(self, task: RestoredTask, tape: Tape) -> Callable[[], None]:
        """Add the locks that a task is to take to its tape. The result is to be called when the tape has run."""
        taken = [(entry, self._take(tape, entry)) for entry in self._entries if entry.pid == task.pid]

        def verify() -> None:
            for entry, call in taken:
                if call.failed:
                    why = os.strerror(-call.result)
                    raise CrError(f"task {entry.pid}: the {_NAMES[entry.flag]} on descriptor {entry.fd}: {why}")
                if entry.flag == _LEASE and entry.type & _BREAKING:
                    self._break(entry)

        return verify

    def _break(self, entry: Message) -> None:
        """Bring a lease into the state of being broken, as another open of the file does. The task got its signal
        then, so it must not get one now: the description has no owner until objects/fown.py sets it."""
        from engine.objects.paths import reopen

        file_id = self._file_id(entry)
        assert file_id is not None
        fd = self._ctx.opened[file_id]
        fcntl.fcntl(fd, _F_SETOWN, 0)
        mode = os.O_RDONLY if entry.type & ~_BREAKING == fcntl.F_RDLCK else os.O_WRONLY
        try:
            os.close(reopen(fd, mode | os.O_NONBLOCK))
        except BlockingIOError:
            pass  # the lease is being broken

    def _take(self, tape: Tape, entry: Message) -> Call:
        if entry.flag == _FLOCK:
            how = fcntl.LOCK_SH if entry.type == fcntl.F_RDLCK else fcntl.LOCK_EX
            return tape.call("flock", entry.fd, how | fcntl.LOCK_NB, may_fail=True)
        if entry.flag == _LEASE:
            return tape.call("fcntl", entry.fd, fcntl.F_SETLEASE, self._unbroken(entry), may_fail=True)
        lock = tape.buffer(_STRUCT_FLOCK.pack(entry.type, os.SEEK_SET, entry.start, entry.len, 0))
        command = fcntl.F_SETLK if entry.flag == _POSIX else _F_OFD_SETLK
        return tape.call("fcntl", entry.fd, command, lock, may_fail=True)

    def _unbroken(self, entry: Message) -> int:
        """What a lease was. One that is being broken shows what it comes down to: from a write lease to a read lease,
        or to none from either, where only a descriptor that can't write may have had a read lease (fcntl(2))."""
        if not entry.type & _BREAKING:
            return int(entry.type)
        file_id = self._file_id(entry)
        assert file_id is not None
        read_only = self._ctx.entries[file_id].reg.flags & os.O_ACCMODE == os.O_RDONLY
        to_none = entry.type & ~_BREAKING == fcntl.F_UNLCK
        return fcntl.F_RDLCK if to_none and read_only else fcntl.F_WRLCK
