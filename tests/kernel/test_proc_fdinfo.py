"""fdinfo of every kind of descriptor that says more than its position."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
from ctypes import c_uint64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.kernel.libc import NR, syscall
from engine.kernel.proc_fdinfo import (
    EpollTarget,
    Eventfd,
    FanotifyMark,
    FdInfo,
    Pidfd,
    decode_sdev,
    fdinfo_epoll,
    fdinfo_eventfd,
    fdinfo_fanotify,
    fdinfo_fields,
    fdinfo_inotify,
    fdinfo_locks,
    fdinfo_pidfd,
    fdinfo_signalfd,
    fdinfo_timerfd,
    parse_fdinfo,
    read_fdinfo,
)
from engine.kernel.proc_locks import FileLock, parse_lock, read_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def keep() -> Iterator[Callable[[int], int]]:
    """keep(fd): fd, closed after the test."""
    fds = []

    def keep(fd: int) -> int:
        fds.append(fd)
        return fd

    yield keep
    for fd in fds:
        os.close(fd)


def info(fd: int) -> FdInfo:
    return read_fdinfo(os.getpid(), fd)


def test_position_and_flags(keep: Callable[[int], int], tmp_path: Path) -> None:
    fd = keep(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC))
    os.lseek(fd, 5 << 32, os.SEEK_SET)
    found = info(fd)
    assert found.pos == 5 << 32
    assert found.flags & (os.O_ACCMODE | os.O_APPEND | os.O_CLOEXEC) == os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    assert found.ino == os.fstat(fd).st_ino
    assert found.lines == []
    os.set_inheritable(fd, True)
    assert not info(fd).flags & os.O_CLOEXEC


def test_before_linux_5_14() -> None:
    assert parse_fdinfo(b"pos:\t3\nflags:\t0100002\nmnt_id:\t19\nsigmask:\t1\n") == FdInfo(
        3, 0o100002, 19, None, ["sigmask:\t1"]
    )


def test_eventfd(keep: Callable[[int], int]) -> None:
    plain = keep(os.eventfd(0x1234567))
    semaphore = keep(os.eventfd(2**32 - 1, os.EFD_SEMAPHORE))
    os.eventfd_write(semaphore, 2**40)
    tells = "eventfd-semaphore" in Path(f"/proc/self/fdinfo/{plain}").read_text()  # since Linux 6.5
    assert fdinfo_eventfd(info(plain)) == Eventfd(0x1234567, False if tells else None)
    assert fdinfo_eventfd(info(semaphore)) == Eventfd(2**40 + 2**32 - 1, True if tells else None)
    assert fdinfo_eventfd(FdInfo(0, 0, 0, 0, ["eventfd-count:               ff"])) == Eventfd(255, None)


def test_epoll(keep: Callable[[int], int], tmp_path: Path) -> None:
    epoll = keep(os.dup(0))
    with select.epoll() as poll:
        os.dup2(poll.fileno(), epoll)
        read_end, write_end = os.pipe()
        keep(read_end), keep(write_end)
        far = keep(fcntl.fcntl(read_end, fcntl.F_DUPFD, 900))
        poll.register(read_end, select.EPOLLIN | select.EPOLLET)
        poll.register(far, select.EPOLLIN | select.EPOLLONESHOT)
        poll.register(write_end, select.EPOLLOUT)
    targets = fdinfo_epoll(info(epoll))
    pipe = os.fstat(read_end)
    assert {target.tfd for target in targets} == {read_end, write_end, far}
    by_number = {target.tfd: target for target in targets}
    # Python sets the lower half of the data, and the upper one to whatever there was before.
    assert by_number[far]._replace(sdev=0, data=by_number[far].data & 0xFFFFFFFF) == EpollTarget(
        far, select.EPOLLIN | select.EPOLLONESHOT | 0x18, far, 0, pipe.st_ino, 0
    )
    assert by_number[read_end].events & select.EPOLLET
    assert {decode_sdev(target.sdev) for target in targets} == {pipe.st_dev}


def test_epoll_before_linux_4_13() -> None:
    line = "tfd:        5 events:       19 data:         ffffffff"
    assert fdinfo_epoll(FdInfo(0, 0, 0, None, [line])) == [EpollTarget(5, 0x19, 0xFFFFFFFF, 0, 0, 0)]


def test_thousands_of_epoll_targets(keep: Callable[[int], int]) -> None:
    """More text than one read of fdinfo takes."""
    with select.epoll() as poll:
        pipe = os.pipe()
        fds = [keep(pipe[0]), keep(pipe[1]), *(keep(os.dup(pipe[0])) for _ in range(400))]
        for fd in fds:
            poll.register(fd, 0)
        found = info(poll.fileno())
        assert sum(map(len, found.lines)) > 16384
        assert sorted(target.tfd for target in fdinfo_epoll(found)) == sorted(fds)


def test_signalfd(keep: Callable[[int], int]) -> None:
    mask = 1 << signal.SIGUSR1 - 1 | 1 << 63
    fd = keep(syscall(NR["signalfd4"], -1, mask.to_bytes(8, "little"), 8, 0))
    assert fdinfo_signalfd(info(fd)) == mask


def test_timerfd(keep: Callable[[int], int]) -> None:
    fd = keep(syscall(NR["timerfd_create"], 1, 0))
    assert fdinfo_timerfd(info(fd)) == (1, 0, 0, (0, 0), (0, 0))
    setting = struct.pack("=4q", 3, 500_000_000, 9000, 7)
    syscall(NR["timerfd_settime"], fd, 0, setting, None)
    timer = fdinfo_timerfd(info(fd))
    assert timer.interval == (3, 500_000_000)
    assert 8900 < timer.value[0] <= 9000
    absolute = struct.pack("=4q", 0, 0, 0, 1)
    syscall(NR["timerfd_settime"], fd, 1, absolute, None)
    select.select([fd], [], [])
    timer = fdinfo_timerfd(info(fd))
    assert (timer.ticks, timer.settime_flags, timer.value) == (1, 1, (0, 0))


def test_inotify(keep: Callable[[int], int], tmp_path: Path) -> None:
    fd = keep(syscall(NR["inotify_init1"], 0))
    directory = os.fstat(keep(os.open(tmp_path, os.O_RDONLY)))
    (tmp_path / "file").touch()
    first = syscall(NR["inotify_add_watch"], fd, os.fsencode(tmp_path), 0x2)
    second = syscall(NR["inotify_add_watch"], fd, os.fsencode(tmp_path / "file"), 0x8)
    watches = {watch.wd: watch for watch in fdinfo_inotify(info(fd))}
    assert watches.keys() == {first, second}
    watch = watches[first]
    assert (watch.ino, decode_sdev(watch.sdev), watch.mask & 0xFFF) == (directory.st_ino, directory.st_dev, 0x2)
    handle = watch.handle
    assert handle is not None
    assert handle.type > 0
    assert len(handle.handle) >= 4


def test_fanotify(keep: Callable[[int], int], tmp_path: Path) -> None:
    report_fid, add, mount, filesystem = 0x200, 1, 0x10, 0x100
    fd = keep(syscall(NR["fanotify_init"], report_fid, os.O_RDONLY | os.O_LARGEFILE))
    path = os.fsencode(tmp_path)
    at_fdcwd = -100
    directory = os.stat(tmp_path)
    for kind, mask in ((0, 0x2), (mount, 0x8), (filesystem, 0x20)):
        syscall(NR["fanotify_mark"], fd, add | kind, c_uint64(mask).value, at_fdcwd, path)
    group = fdinfo_fanotify(info(fd))
    assert group.flags == report_fid
    assert group.event_flags & os.O_ACCMODE == os.O_RDONLY
    marks = {mark.mask: mark for mark in group.marks}
    inode = marks[0x2]
    assert (inode.ino, decode_sdev(inode.sdev or 0), inode.mnt_id) == (directory.st_ino, directory.st_dev, None)
    assert inode.handle is not None
    mounted = marks[0x8]
    with open(tmp_path / "x", "w") as file:
        assert mounted.mnt_id == info(file.fileno()).mnt_id
    assert (mounted.ino, mounted.sdev, mounted.handle) == (None, None, None)
    assert marks[0x20] == FanotifyMark(None, inode.sdev, None, None, 0, 0x20, 0, None)


def test_pidfd(keep: Callable[[int], int]) -> None:
    pid = os.fork()
    if not pid:
        signal.pause()
    fd = keep(os.pidfd_open(pid))
    assert fdinfo_pidfd(info(fd)) == Pidfd(pid, (pid,))
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert fdinfo_pidfd(info(fd)) == Pidfd(-1, ())


def test_fields_of_a_terminal(keep: Callable[[int], int]) -> None:
    master, slave = os.openpty()
    keep(master), keep(slave)
    assert fdinfo_fields(info(master)) == {"tty-index": os.ttyname(slave).rsplit("/", 1)[1]}


def test_locks(keep: Callable[[int], int], tmp_path: Path) -> None:
    fd = keep(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    stat, pid = os.fstat(fd), os.getpid()
    fcntl.flock(fd, fcntl.LOCK_SH)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 100)
    ofd_setlk = 37
    fcntl.fcntl(fd, ofd_setlk, struct.pack("=hh4xqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 500, 0, 0))
    flock = FileLock(False, "FLOCK", "ADVISORY", "READ", pid, stat.st_dev, stat.st_ino, 0, None)
    posix = flock._replace(kind="POSIX", access="WRITE", start=100, end=109)
    ofd = flock._replace(kind="OFDLCK", pid=-1, start=500)
    assert sorted(fdinfo_locks(info(fd))) == sorted([flock, posix, ofd])
    assert {flock, posix, ofd} <= set(read_locks())


def test_lease(keep: Callable[[int], int], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = keep(os.open(tmp_path / "file", os.O_RDONLY))
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    (lease,) = fdinfo_locks(info(fd))
    assert (lease.kind, lease.mode, lease.access, lease.pid) == ("LEASE", "ACTIVE", "READ", os.getpid())


def test_waiter_and_lock_without_inode() -> None:
    waiter = parse_lock("1: -> FLOCK  ADVISORY  WRITE 77 fe:00:123 0 EOF")
    assert waiter == FileLock(True, "FLOCK", "ADVISORY", "WRITE", 77, os.makedev(0xFE, 0), 123, 0, None)
    assert parse_lock("2: POSIX  *NOINODE* READ  77 <none>:0 1 2")[4:] == (77, 0, 0, 1, 2)
