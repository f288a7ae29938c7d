"""Eventfds, signalfds, timerfds, and pidfds of the dead, dumped and made again in the test process."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.kernel.kcmp import EQUAL, GREATER, LESS, kcmp_epoll
from engine.kernel.libc import NR, syscall
from engine.kernel.proc_fdinfo import fdinfo_eventfd, fdinfo_signalfd, fdinfo_timerfd, read_fdinfo
from engine.kernel.timerfd import TFD_TIMER_ABSTIME, TimerSetting, timerfd_create, timerfd_gettime, timerfd_settime

if TYPE_CHECKING:
    from engine.kernel.proc_fdinfo import FdInfo
    from tests.objects.conftest import Cycle

MOST = 0xFFFFFFFFFFFFFFFE
SECOND = 1_000_000_000
HOUR = 3600 * SECOND


def info(fd: int) -> FdInfo:
    return read_fdinfo(os.getpid(), fd)


@pytest.mark.parametrize("counter", [0, 90, 0xFFFFFFFF, 0x100000000, MOST])
@pytest.mark.parametrize("flags", [0, os.EFD_NONBLOCK, os.EFD_SEMAPHORE, os.EFD_SEMAPHORE | os.EFD_NONBLOCK])
def test_eventfd(cycle: Cycle, counter: int, flags: int) -> None:
    fd = os.eventfd(0, flags)
    if counter:
        os.eventfd_write(fd, counter)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert fdinfo_eventfd(info(new)) == (counter, bool(flags & os.EFD_SEMAPHORE))
    assert os.get_blocking(new) is not bool(flags & os.EFD_NONBLOCK)
    os.close(fd)


def test_impossible_eventfd(cycle: Cycle) -> None:
    fd = os.eventfd(0)
    cycle.dump(fd)
    os.close(fd)
    cycle.dump_context.entries[0].efd.counter = MOST + 1
    with pytest.raises(Refused, match="no counter can be"):
        cycle.check()


@pytest.mark.parametrize("mask", [0, 1 << 9, 1 << 63])
def test_signalfd(cycle: Cycle, mask: int) -> None:
    fd = syscall(NR["signalfd4"], -1, mask.to_bytes(8, "little"), 8, os.O_NONBLOCK)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert fdinfo_signalfd(info(new)) == mask
    assert not os.get_blocking(new)
    os.close(fd)


def test_signalfd_reads_signals(cycle: Cycle) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    fd = syscall(NR["signalfd4"], -1, (1 << signal.SIGUSR1 - 1).to_bytes(8, "little"), 8, 0)
    cycle.dump(fd)
    os.close(fd)
    (new,) = cycle.restore()
    signal.raise_signal(signal.SIGUSR1)
    assert os.read(new, 128)[0] == signal.SIGUSR1
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def remaining(fd: int) -> int:
    return timerfd_gettime(fd).value


@pytest.mark.parametrize("clock", [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME])
@pytest.mark.parametrize("flags", [0, TFD_TIMER_ABSTIME])
def test_armed_timer(cycle: Cycle, clock: int, flags: int) -> None:
    fd = timerfd_create(clock)
    offset = time.clock_gettime_ns(clock) if flags else 0
    timerfd_settime(fd, flags, TimerSetting(HOUR + 5 + offset, 7 * SECOND + 8))
    cycle.dump(fd)
    (new,) = cycle.restore()
    was, now = fdinfo_timerfd(info(fd)), fdinfo_timerfd(info(new))
    assert (now.clockid, now.settime_flags, now.ticks, now.interval) == (clock, flags, 0, (7, 8))
    assert was[:3] == now[:3]
    assert abs(remaining(fd) - remaining(new)) < SECOND
    os.close(fd)


def test_disarmed_timer(cycle: Cycle) -> None:
    fd = timerfd_create(time.CLOCK_MONOTONIC)
    timerfd_settime(fd, 0, TimerSetting(0, SECOND))
    cycle.dump(fd)
    os.close(fd)
    (new,) = cycle.restore()
    assert fdinfo_timerfd(info(new)).value == (0, 0)


def expired(interval: int) -> int:
    fd = timerfd_create(time.CLOCK_MONOTONIC)
    timerfd_settime(fd, 0, TimerSetting(1, interval))
    select.select([fd], [], [])
    return fd


def test_expired_timer(cycle: Cycle) -> None:
    fd = expired(0)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert os.read(new, 8) == os.read(fd, 8) == struct.pack("Q", 1)
    assert remaining(new) == 0
    os.close(fd)


def test_expired_interval_timer(cycle: Cycle) -> None:
    """The kernel has not started it again when it is dumped, and shows no remaining time."""
    fd = expired(HOUR)
    assert fdinfo_timerfd(info(fd)).value == (0, 0)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert os.read(new, 8) == os.read(fd, 8) == struct.pack("Q", 1)
    assert abs(remaining(fd) - remaining(new)) < SECOND
    os.close(fd)


def test_interval_timer_of_an_engine_that_does_not_catch_up(cycle: Cycle) -> None:
    fd = expired(HOUR)
    cycle.dump(fd)
    os.close(fd)
    entry = cycle.dump_context.entries[0].tfd
    entry.vsec = entry.vnsec = 0
    (new,) = cycle.restore()
    assert os.read(new, 8) == struct.pack("Q", 1)
    assert HOUR - SECOND < remaining(new) <= HOUR


def test_impossible_timer(cycle: Cycle) -> None:
    fd = timerfd_create(time.CLOCK_MONOTONIC)
    cycle.dump(fd)
    os.close(fd)
    cycle.dump_context.entries[0].tfd.vnsec = SECOND
    with pytest.raises(Refused, match="its times are impossible"):
        cycle.check()


def test_pidfds_of_the_dead(cycle: Cycle) -> None:
    fds = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        fds += [os.pidfd_open(pid), os.pidfd_open(pid, os.O_NONBLOCK)]
        os.waitpid(pid, 0)
    cycle.dump(*fds)
    new = cycle.restore()
    inodes = [os.fstat(fd).st_ino for fd in new]
    assert inodes[0] == inodes[1] != inodes[2] == inodes[3]
    assert [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in new] == [0, os.O_NONBLOCK] * 2
    for fd in new:
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(fd, 0)
    for fd in fds:
        os.close(fd)


def test_pidfd_of_a_stranger(cycle: Cycle) -> None:
    fd = os.pidfd_open(os.getppid())
    with pytest.raises(Refused, match=f"is of process {os.getppid()}, which is not in the tree"):
        cycle.dump(fd)
    os.close(fd)


def test_epoll_finds_what_it_watches(cycle: Cycle) -> None:
    """Not what has the number now. Two watches may have been added under one number."""
    reader, writer = os.pipe()
    second, third = os.pipe()
    number = os.dup(reader)
    epoll = select.epoll()
    epoll.register(number, select.EPOLLIN)
    os.dup2(second, number)
    epoll.register(number, select.EPOLLPRI)
    os.close(number)
    messages = cycle.dump(epoll.fileno(), reader, second)
    files = {file.fd: file.id for file in cycle.dump_context.files}
    watches = {item.id: item.events for item in messages[0].tfd}
    assert set(watches) == {files[reader], files[second]}
    assert watches[files[reader]] & select.EPOLLIN
    assert watches[files[second]] & select.EPOLLPRI
    epoll.close()
    for fd in (reader, writer, second, third):
        os.close(fd)


def test_epoll_watches_what_nobody_has(cycle: Cycle) -> None:
    reader, writer = os.pipe()
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    with pytest.raises(Refused, match=f"one reason: .* watches a file that was descriptor {reader} once"):
        cycle.dump(epoll.fileno())
    epoll.close()
    os.close(reader)
    os.close(writer)


def test_kcmp_of_epoll_targets_is_an_order() -> None:
    pid = os.getpid()
    reader, writer = os.pipe()
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    assert kcmp_epoll(pid, reader, pid, epoll.fileno(), reader, 0) == EQUAL
    assert kcmp_epoll(pid, writer, pid, epoll.fileno(), reader, 0) in (LESS, GREATER)
    with pytest.raises(FileNotFoundError):
        kcmp_epoll(pid, reader, pid, epoll.fileno(), reader, 1)
    epoll.close()
    os.close(reader)
    os.close(writer)
