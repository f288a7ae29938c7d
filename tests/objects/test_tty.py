"""Pseudo terminals: what is queued in both directions stays and comes again, whatever the modes; settings."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import termios
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import CrError, Refused
from engine.kernel import terminal
from tests.objects.facts import events_of, flags_of, link_of
from tests.objects.terminals import Pair, again, typed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.objects.conftest import Cycle


def test_settings(cycle: Cycle, pair: Pair) -> None:
    """A speed of its own, modes that are locked, a slave that can't be opened, exclusive use of both ends."""
    typed(pair, b"typed\n")
    pair.set_modes(cflag=terminal.modes(pair.slave).cflag & ~0o2003610017 | 0o2000010000, ispeed=12345, ospeed=54321)
    locked = terminal.Modes(termios.ICRNL, 0, 0, termios.ICANON | termios.ECHO, 0, b"\1" * 19)
    terminal.set_locked_modes(pair.slave, locked)
    terminal.set_window_size(pair.slave, terminal.WindowSize(1, 2, 3, 65535))
    terminal.set_locked(pair.master, True)
    for fd in (pair.master, pair.slave):
        terminal.set_exclusive(fd, True)
    before = terminal.modes(pair.slave)
    assert (before.ispeed, before.ospeed) == (12345, 54321)
    for master, slave in again(cycle, pair):
        assert terminal.modes(slave) == before
        assert terminal.locked_modes(slave) == locked
        assert terminal.window_size(slave) == (1, 2, 3, 65535)
        assert terminal.is_locked(master)
        assert terminal.is_exclusive(master)
        assert terminal.is_exclusive(slave)
        assert os.read(slave, 10) == b"typed\n"


def test_descriptions(cycle: Cycle) -> None:
    """Several of the slave, one of which only reads; flags and numbers."""
    pair = Pair()
    second = os.open(os.ttyname(pair.slave), os.O_RDONLY | os.O_NOCTTY)
    fds = [pair.master, pair.slave, second]
    before = [(flags_of(fd), link_of(fd)) for fd in fds]
    cycle.dump(*fds)
    for fd in fds:
        os.close(fd)
    new = cycle.restore()
    assert [(flags_of(fd), link_of(fd)) for fd in new] == before
    os.write(new[0], b"x\n")
    assert os.read(new[2], 10) == b"x\n"


@pytest.mark.parametrize("closed", [False, True], ids=["never open", "closed"])
def test_master_alone(cycle: Cycle, closed: bool) -> None:
    """One whose slave was open and was closed gives the end of file; one whose slave was not open yet waits."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    if closed:
        terminal.set_locked(master, False)
        os.close(terminal.open_peer(master, os.O_RDWR))
    before = events_of(master), terminal.is_locked(master)
    cycle.dump(master)
    assert (events_of(master), terminal.is_locked(master)) == before
    os.close(master)
    (new,) = cycle.restore()
    assert (events_of(new), terminal.is_locked(new)) == before


def test_hung_up(cycle: Cycle) -> None:
    pair = Pair()
    os.close(pair.master)
    before = link_of(pair.slave), events_of(pair.slave), os.fstat(pair.slave).st_rdev
    cycle.dump(pair.slave)
    os.close(pair.slave)
    (new,) = cycle.restore()
    assert (link_of(new), events_of(new), os.fstat(new).st_rdev) == before


def test_number_in_use(cycle: Cycle, pair: Pair) -> None:
    """Who has it is told."""
    cycle.dump(pair.master, pair.slave)
    child = os.fork()
    if not child:
        signal.pause()
    try:
        with pytest.raises(Refused, match=rf"{os.ttyname(pair.slave)}: its number is in use by process {child} "):
            cycle.check()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_master_outside(cycle: Cycle, pair: Pair) -> None:
    key = rf"tty\[{os.fstat(pair.slave).st_rdev:x}:{os.fstat(pair.slave).st_dev:x}\]"
    with pytest.raises(Refused, match=rf"has its master outside of the tree.*--shell-job.*--external {key}"):
        cycle.dump(pair.slave)


class _Client:
    """One who asks for masters."""

    orphan_pts_master = True

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.answer = True

    def hand_over_master(self, fd: int) -> bool:
        self.taken.append(os.dup(fd))
        return self.answer


def test_client_gets_the_master(cycle: Cycle) -> None:
    """Of a slave whose master was not in the tree."""
    pair = Pair()
    name, client = os.ttyname(pair.slave), _Client()
    pair.set_modes(lflag=0, oflag=0)
    cycle.opts.client = client  # type: ignore[assignment]
    cycle.dump(pair.slave)
    pair.close()
    (slave,) = cycle.restore()
    (master,) = client.taken
    assert os.ttyname(slave) == name
    os.write(slave, b"output")
    assert terminal.events(master, select.POLLIN) == select.POLLIN
    assert os.read(master, 10) == b"output"
    cycle.close_descriptors()
    os.close(master)
    client.answer = False
    with pytest.raises(CrError, match="the client does not take its master"):
        cycle.restore()
    os.close(client.taken[1])


def test_two_file_systems(cycle: Cycle, pair: Pair, place: Path) -> None:
    """Terminals of one number, each in a devpts of its own."""
    subprocess.run(["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=666", "devpts", place], check=True)
    masters = [os.open(place / "ptmx", os.O_RDWR | os.O_NOCTTY)]
    try:
        while (index := terminal.pty_index(masters[-1])) < terminal.pty_index(pair.master):
            masters.append(os.open(place / "ptmx", os.O_RDWR | os.O_NOCTTY))
        assert index == terminal.pty_index(pair.master)
        with pytest.raises(Refused, match="two mounts of devpts have terminals of this name in use"):
            cycle.dump(masters[-1], pair.master, pair.slave)
        with pytest.raises(Refused, match="two mounts of devpts have terminals of this name in use"):
            cycle.dump(masters[-1], pair.slave)
    finally:
        for master in masters:
            os.close(master)
        subprocess.run(["umount", place], check=True)


def test_other_line_discipline(cycle: Cycle, pair: Pair) -> None:
    ppp_or_null = 27
    ioctl(pair.slave, 0x5423, struct.pack("i", ppp_or_null))
    with pytest.raises(Refused, match="line discipline of this terminal is not the usual one"):
        cycle.dump(pair.master, pair.slave)


def _twice(infos: list[Any]) -> None:
    infos.append(type(infos[0])())
    infos[-1].CopyFrom(infos[0])
    infos[-1].id += 64


def _retype(info: Any, kind: int) -> None:
    info.type = kind
    info.ClearField("pty")


_CRAFTED: dict[str, tuple[Callable[[list[Any]], object], str]] = {
    "impossible number": (lambda infos: setattr(infos[0].pty, "index", 1 << 30), r"there are \d+ at most"),
    "no number": (lambda infos: infos[0].ClearField("pty"), "has no number, or a needless one"),
    "the same twice": (_twice, "a pseudo terminal is there twice"),
    "not there": (lambda infos: infos.clear(), "is not in tty-info.img"),
    "external": (lambda infos: _retype(infos[1], 5), "this terminal is external"),
    "a machine's": (lambda infos: _retype(infos[1], 3), "is not terminal 136:"),
    "lost master": (lambda infos: infos.pop(0), "its master was not in the tree that was dumped"),
}


@pytest.mark.parametrize("name", _CRAFTED)
def test_crafted_images(cycle: Cycle, name: str) -> None:
    pair = Pair()
    cycle.dump(pair.master, pair.slave)
    pair.close()
    change, reason = _CRAFTED[name]
    infos = list(cycle.images.read("TTY_INFO"))
    change(infos)
    with cycle.images.writer("TTY_INFO") as image:
        for info in infos:
            image.put(info)
    with pytest.raises(Refused, match=reason):
        cycle.check()
