"""Locks and leases: found in fdinfo, refused, stored, and taken again by a tape, which the test process plays."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import CrError, Problems, Refused
from engine.kernel.libc import NR, syscall
from engine.kernel.proc_fdinfo import fdinfo_locks, read_fdinfo
from engine.kernel.proc_locks import FileLock, read_locks
from engine.objects.base import OpenFile
from engine.objects.locks import DumpedLocks, RestoredLocks
from engine.options import Options
from engine.restore_context import RestoredTask
from engine.tape.tape import Buffer, Call, Tape
from engine.task.tree import Task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.images.directory import ImageDir

F_OFD_SETLK = 37
POSIX, FLOCK, OFD, LEASE = 1, 2, 4, 8
LOCK = struct.Struct("hh4xqqi4x")


class Context:
    """As much of a DumpContext or RestoreContext as locks look at."""

    def __init__(self, images: ImageDir, fds: list[int]) -> None:
        self.opts = Options()
        self.opts.file_locks = True
        self.images = images
        self.problems = Problems()
        self.task = Task(os.getpid(), None)
        self.tasks: list[Any] = [self.task]
        self.table = self
        self.fds = fds

    def descriptors(self) -> Iterator[tuple[Task, int, int, OpenFile]]:
        for fd in self.fds:
            link, info = os.readlink(f"/proc/self/fd/{fd}"), read_fdinfo(os.getpid(), fd)
            yield self.task, 2, fd, OpenFile(self.task, fd, fd, os.fstat(fd), link, info)

    def restored(self) -> Context:
        """The same as a restore has it, all descriptors in its task."""
        task = RestoredTask(os.getpid(), 1, 1, None)
        task.fdinfo = [type("Entry", (), {"fd": fd, "id": fd}) for fd in self.fds]
        self.tasks = [task]
        self.entries = {fd: self._entry(fd) for fd in self.fds}
        self.opened = {fd: fd for fd in self.fds}
        return self

    @staticmethod
    def _entry(fd: int) -> Any:
        from engine.images.schema import message

        entry = message("file_entry")()
        entry.reg.flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return entry


def play(tape: Tape) -> None:
    """Make a tape's calls in this process. All may fail."""
    import ctypes

    for record in tape._records:
        assert isinstance(record, Call)
        args: list[Any] = [
            ctypes.create_string_buffer(arg.content) if isinstance(arg, Buffer) else arg for arg in record.args
        ]
        try:
            record.result = syscall(NR[record.name], *args)
        except OSError as error:
            record.result = -(error.errno or 0)


def dump(images: ImageDir, *fds: int) -> Context:
    ctx: Any = Context(images, list(fds))
    locks = DumpedLocks(ctx)
    locks.refuse()
    ctx.problems.raise_if_any("dump")
    locks.write()
    result: Context = ctx
    return result


def restore(ctx: Any) -> None:
    locks = RestoredLocks(ctx.restored())
    locks.check()
    ctx.problems.raise_if_any("restore")
    tape = Tape()
    verify = locks.in_task(ctx.tasks[0], tape)
    play(tape)
    verify()


def lock(fd: int, command: int, kind: int, start: int = 0, length: int = 0) -> None:
    fcntl.fcntl(fd, command, LOCK.pack(kind, os.SEEK_SET, start, length, 0))


def locks_of(fd: int) -> list[FileLock]:
    return sorted(fdinfo_locks(read_fdinfo(os.getpid(), fd)), key=str)


def unlock(fd: int) -> None:
    lock(fd, fcntl.F_SETLK, fcntl.F_UNLCK)
    lock(fd, F_OFD_SETLK, fcntl.F_UNLCK)
    fcntl.flock(fd, fcntl.LOCK_UN)
    if locks_of(fd):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert locks_of(fd) == []


def stored(images: ImageDir) -> list[tuple[int, ...]]:
    return sorted((e.flag, e.type, e.pid, e.fd, e.start, e.len) for e in images.read("FILE_LOCKS"))


@pytest.fixture
def fds(tmp_path: Path) -> Iterator[list[int]]:
    """Descriptors of two descriptions of one file, opened for reading and writing, and one of another for reading."""
    (tmp_path / "read").touch()
    opened = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    opened.append(os.open(tmp_path / "read", os.O_RDONLY))
    yield opened
    for fd in opened:
        os.close(fd)


def test_round_trip(images: ImageDir, fds: list[int]) -> None:
    one, two, third = fds
    lock(one, fcntl.F_SETLK, fcntl.F_WRLCK, 10, 5)
    lock(one, fcntl.F_SETLK, fcntl.F_RDLCK, 100)
    lock(two, F_OFD_SETLK, fcntl.F_RDLCK, 1000, 1)
    fcntl.flock(two, fcntl.LOCK_EX)
    fcntl.fcntl(third, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    before = [locks_of(fd) for fd in fds]
    assert [len(found) for found in before] == [2, 2, 1]
    ctx = dump(images, *fds)
    pid = os.getpid()
    assert stored(images) == [
        (POSIX, fcntl.F_RDLCK, pid, one, 100, 0),
        (POSIX, fcntl.F_WRLCK, pid, one, 10, 5),
        (FLOCK, fcntl.F_WRLCK, pid, two, 0, 0),
        (OFD, fcntl.F_RDLCK, pid, two, 1000, 1),
        (LEASE, fcntl.F_RDLCK, pid, third, 0, 0),
    ]
    for fd in fds:
        unlock(fd)
    restore(ctx)
    assert [locks_of(fd) for fd in fds] == before
    for fd in fds:
        unlock(fd)


def test_refused_without_the_option(images: ImageDir, fds: list[int]) -> None:
    fcntl.flock(fds[0], fcntl.LOCK_SH)
    ctx: Any = Context(images, fds)
    ctx.opts.file_locks = False
    DumpedLocks(ctx).refuse()
    with pytest.raises(Refused, match=r"there is a flock lock on it \(--file-locks dumps it\)"):
        ctx.problems.raise_if_any("dump")
    assert len(locks_of(fds[0])) == 1


@pytest.mark.parametrize(("flags", "to"), [(os.O_RDONLY, fcntl.F_UNLCK), (os.O_RDWR, fcntl.F_RDLCK)])
def test_lease_that_is_being_broken(images: ImageDir, tmp_path: Path, flags: int, to: int) -> None:
    (tmp_path / "leased").touch()
    fd = os.open(tmp_path / "leased", flags)
    signals = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    fcntl.fcntl(fd, fcntl.F_SETOWN, signals.pid)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK if to == fcntl.F_RDLCK else fcntl.F_RDLCK)
    fcntl.fcntl(fd, fcntl.F_SETOWN, 0)
    with pytest.raises(BlockingIOError):
        os.open(tmp_path / "leased", os.O_NONBLOCK | (os.O_RDONLY if to == fcntl.F_RDLCK else os.O_WRONLY))
    before = locks_of(fd)
    assert [found.mode for found in before] == ["BREAKING"]
    ctx = dump(images, fd)
    assert [kind for _, kind, *_ in stored(images)] == [to | 4]
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    fcntl.fcntl(fd, fcntl.F_SETOWN, signals.pid)
    restore(ctx)
    assert locks_of(fd) == before
    signals.communicate(b"\n")
    assert signals.returncode == 0, "the owner has been told again"
    os.close(fd)


def test_lock_that_somebody_else_has_by_now(images: ImageDir, fds: list[int]) -> None:
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    ctx = dump(images, *fds)
    fcntl.flock(fds[0], fcntl.LOCK_UN)
    fcntl.flock(fds[1], fcntl.LOCK_EX)
    with pytest.raises(CrError, match=f"the flock lock on descriptor {fds[0]}: Resource temporarily unavailable"):
        restore(ctx)


def test_somebody_outside_waits(images: ImageDir, fds: list[int]) -> None:
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    code = f"import fcntl; f = open('/proc/{os.getpid()}/fd/{fds[0]}'); fcntl.flock(f, fcntl.LOCK_EX)"
    with subprocess.Popen([sys.executable, "-c", code]) as waiter:
        while not any(found.blocked and found.pid == waiter.pid for found in read_locks()):
            assert waiter.poll() is None
        with pytest.raises(Refused, match=f"process {waiter.pid} outside of the tree waits for a lock on it"):
            dump(images, *fds)
        fcntl.flock(fds[0], fcntl.LOCK_UN)


def test_restore_without_the_option_leaves_locks_out(images: ImageDir, fds: list[int]) -> None:
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    ctx = dump(images, *fds)
    fcntl.flock(fds[0], fcntl.LOCK_UN)
    ctx.opts.file_locks = False
    restore(ctx)
    assert locks_of(fds[0]) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("fd", 12345), ("pid", 1), ("flag", 3), ("start", -1), ("len", -1), ("len", (1 << 63) - 1)],
)
def test_impossible_locks(images: ImageDir, fds: list[int], field: str, value: int) -> None:
    lock(fds[0], fcntl.F_SETLK, fcntl.F_WRLCK, 10, 5)
    ctx = dump(images, *fds)
    (entry,) = images.read("FILE_LOCKS")
    setattr(entry, field, value)
    images.write("FILE_LOCKS", entry)
    with pytest.raises(Refused, match=r"filelocks.img: .*the image is damaged"):
        restore(ctx)
    unlock(fds[0])
