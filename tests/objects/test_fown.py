"""Owners of files: who gets which signal, and in whose name."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle

F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX, F_GETOWNER_UIDS = 10, 11, 15, 16, 17


def owner(fd: int) -> tuple[int, ...]:
    """Type and pid, user ids, signal."""
    who = struct.unpack("ii", fcntl.fcntl(fd, F_GETOWN_EX, bytes(8)))
    uids = struct.unpack("II", fcntl.fcntl(fd, F_GETOWNER_UIDS, bytes(8)))
    return *who, *uids, fcntl.fcntl(fd, F_GETSIG)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_owner(cycle: Cycle, kind: int) -> None:
    """A thread, a process, a group; set under other user ids than the restore has."""
    fds = os.pipe()
    pid = os.getpgrp() if kind == 2 else os.getpid()
    os.seteuid(1234)
    try:
        fcntl.fcntl(fds[0], F_SETOWN_EX, struct.pack("ii", kind, pid))
    finally:
        os.seteuid(0)
    fcntl.fcntl(fds[0], F_SETSIG, signal.SIGRTMIN)
    assert owner(fds[0]) == (kind, pid, 0, 1234, signal.SIGRTMIN)
    reading, writing = cycle.dump(*fds)
    assert (writing.fown.pid, writing.fown.uid, writing.fown.signum) == (0, 0, 0)
    assert reading.fown.euid == 1234
    new = cycle.restore()
    assert [owner(fd) for fd in new] == [owner(fd) for fd in fds]
    assert (os.getuid(), os.geteuid()) == (0, 0)
    for fd in fds:
        os.close(fd)


def test_owner_that_is_gone_is_none(cycle: Cycle) -> None:
    fds = os.pipe()
    cycle.dump(*fds)
    entry = cycle.dump_context.entries[0].pipe
    entry.fown.pid_type, entry.fown.pid, entry.fown.signum = 1, 1 << 22, signal.SIGIO
    new = cycle.restore()
    assert owner(new[0])[1] == 0
    assert owner(new[0])[4] == signal.SIGIO
    for fd in fds:
        os.close(fd)


def test_no_signal_while_a_file_is_restored(cycle: Cycle) -> None:
    """The owner comes last: filling a pipe whose ends have O_ASYNC raises nothing."""
    fds = os.pipe()
    os.write(fds[1], b"x")
    fcntl.fcntl(fds[0], fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fds[0], fcntl.F_SETFL, fcntl.FASYNC)
    came: list[int] = []
    # A handler rather than a mask: a worker of pytest-xdist has a second thread, which could take the signal.
    previous = signal.signal(signal.SIGIO, lambda number, _frame: came.append(number))
    try:
        cycle.dump(*fds)
        new = cycle.restore()
        assert came == []
        os.write(new[1], b"y")
        wait_until(lambda: came, "the signal has come")
        assert came == [signal.SIGIO]
    finally:
        for fd in fds:
            os.close(fd)
        cycle.close_descriptors()
        signal.signal(signal.SIGIO, previous)


def test_impossible_type(cycle: Cycle) -> None:
    fds = os.pipe()
    cycle.dump(*fds)
    cycle.dump_context.entries[0].pipe.fown.pid_type = 7
    with pytest.raises(CrError, match="a file's owner is of type 7"):
        cycle.restore()
    for fd in fds:
        os.close(fd)
