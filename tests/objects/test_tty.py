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
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.objects.conftest import Cycle

_EXTPROC = 0o200000


class Pair:
    """A pseudo terminal. Writing to the master is typing."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        os.set_blocking(self.slave, False)

    def set_modes(self, **changes: Any) -> None:
        terminal.set_modes(self.slave, terminal.modes(self.slave)._replace(**changes))

    def set_character(self, name: str, value: int) -> None:
        cc = bytearray(terminal.modes(self.slave).cc)
        cc[getattr(termios, name)] = value
        terminal.set_modes(self.slave, terminal.modes(self.slave)._replace(cc=bytes(cc)))

    def silence(self) -> None:
        self.set_modes(lflag=terminal.modes(self.slave).lflag & ~termios.ECHO)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def again(cycle: Cycle, pair: Pair) -> list[tuple[int, int]]:
    """Dump a terminal and restore it: (master, slave) of the first and the second one. The first is not closed, so the
    second gets another number."""
    cycle.dump(pair.master, pair.slave)
    ends = pair.master, pair.slave
    number = terminal.pty_index(pair.master)
    twin = _renumbered(cycle, number)
    return [ends, (twin[0], twin[1])]


def _renumbered(cycle: Cycle, old: int) -> list[int]:
    """Restore under a number that is free: the one that the kernel would give."""
    probe = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    new = terminal.pty_index(probe)
    os.close(probe)
    infos = list(cycle.images.read("TTY_INFO"))
    with cycle.images.writer("TTY_INFO") as image:
        for info in infos:
            if info.HasField("pty") and info.pty.index == old:
                info.pty.index = new
            image.put(info)
    return cycle.restore()


def read_all(fd: int) -> list[bytes]:
    """What reading gives, read by read."""
    found = []
    while events_of(fd) & select.POLLIN:
        found.append(os.read(fd, 1 << 16))
    return found


def typed(pair: Pair, data: bytes) -> None:
    """Type, and wait until it has arrived: poll(2) sees to that where nothing can be read before."""
    os.write(pair.master, data)
    terminal.events(pair.slave, select.POLLIN)


def test_lines(cycle: Cycle, pair: Pair) -> None:
    """With their echo; and one that is still being typed, which shows when it is complete."""
    typed(pair, b"first\n")
    for text in (b"second\n", b"\n", b"beg"):
        os.write(pair.master, text)
    wait_until(lambda: terminal.readable(pair.master) == 20, "the echo is there")
    os.write(pair.slave, b"output\n")
    for master, slave in again(cycle, pair):
        assert read_all(slave) == [b"first\n", b"second\n", b"\n"]
        os.write(master, b"un\n")
        assert read_all(slave) == [b"begun\n"]
        assert b"".join(read_all(master)) == b"first\r\nsecond\r\n\r\nbegoutput\r\nun\r\n"


def test_line_that_is_being_typed_can_be_erased(cycle: Cycle, pair: Pair) -> None:
    pair.silence()
    typed(pair, b"wrong")
    for master, slave in again(cycle, pair):
        os.write(master, b"\x7f\x7f\x7f\x7f\x7fright\n")
        assert read_all(slave) == [b"right\n"]


def test_ends_of_lines(cycle: Cycle, pair: Pair) -> None:
    """By end of file, after text and alone, and by characters of the user's; characters that were quoted end none."""
    pair.silence()
    pair.set_character("VEOL", ord("|"))
    pair.set_character("VEOL2", 0x16)
    pair.set_character("VLNEXT", 1)
    for text in (b"a\x04", b"\x04", b"b|", b"c\x16", b"d\x01\ne\x01|\x01\x04\x01\x16\x01\x01f\n", b"\x01\0\x01\x03\n"):
        typed(pair, text)
    expected = [b"a", b"", b"b|", b"c\x16", b"d\ne|\x04\x16\x01f\n", b"\0\x03\n"]
    for _, slave in again(cycle, pair):
        assert [os.read(slave, 100) for _ in expected] == expected
        assert not events_of(slave) & select.POLLIN


def test_nothing_that_is_queued_means_anything(cycle: Cycle, pair: Pair) -> None:
    """Bytes that were read raw are not looked at again when the modes are back."""
    pair.set_modes(iflag=0, lflag=0)
    everything = bytes(range(256))
    typed(pair, everything)
    os.write(pair.slave, everything.replace(b"\n", b""))
    pair.set_modes(
        iflag=termios.IXON | termios.ICRNL | termios.ISTRIP, lflag=termios.ISIG | termios.ECHO | termios.TOSTOP,
        oflag=termios.OPOST | termios.ONLCR,
    )  # fmt: skip
    before = terminal.modes(pair.slave)
    for master, slave in again(cycle, pair):
        assert b"".join(read_all(slave)) == everything
        assert b"".join(read_all(master)) == everything.replace(b"\n", b"")
        assert terminal.modes(slave) == before


@pytest.mark.parametrize("minimum", [0, 1, 200])
def test_raw_input_whatever_reads_wait_for(cycle: Cycle, pair: Pair, minimum: int) -> None:
    pair.set_modes(lflag=0)
    typed(pair, b"few")
    pair.set_character("VMIN", minimum)
    for _, slave in again(cycle, pair):
        assert os.read(slave, 100) == b"few"


def test_external_processing(cycle: Cycle, pair: Pair) -> None:
    """EXTPROC: lines are made by somebody else, so canonical mode has none."""
    pair.set_modes(lflag=termios.ICANON | _EXTPROC)
    typed(pair, b"no line")
    for _, slave in again(cycle, pair):
        assert os.read(slave, 100) == b"no line"


@pytest.mark.parametrize("size", [1, 300, 500, 1000, 1024, 1792, 4096])
def test_full(cycle: Cycle, pair: Pair, size: int) -> None:
    """All that the kernel takes, both ways, in writes of different sizes, the first of which have arrived."""
    pair.set_modes(iflag=0, lflag=0, oflag=0)
    os.set_blocking(pair.master, False)
    data = {pair.master: b"", pair.slave: b""}
    for fd, other in ((pair.master, pair.slave), (pair.slave, pair.master)):
        pieces = [4095, *[size] * 30000, *[1792] * 3]
        for number, length in enumerate(pieces):
            piece = os.urandom(length)
            try:
                data[fd] += piece[: os.write(fd, piece)]
            except BlockingIOError:
                break
            if not number:
                wait_until(lambda: terminal.readable(other) == 4095, "the first bytes have arrived")  # noqa: B023
    assert min(map(len, data.values())) > 12_000
    for master, slave in again(cycle, pair):
        assert b"".join(read_all(slave)) == data[pair.master]
        assert b"".join(read_all(master)) == data[pair.slave]


@pytest.mark.parametrize("way", ["STOP", "tcflow"])
def test_stopped_output(cycle: Cycle, pair: Pair, way: str) -> None:
    """START lets output go on that STOP has stopped, but not that which tcflow(3) has."""
    pair.silence()
    os.write(pair.slave, b"before\n")
    if way == "STOP":
        typed(pair, b"\x13")
    else:
        termios.tcflow(pair.slave, termios.TCOOFF)
    os.write(pair.master, b"line\n")
    for master, slave in again(cycle, pair):
        assert b"".join(read_all(master)) == b"before\r\n"
        assert not terminal.events(slave, select.POLLOUT)
        assert os.read(slave, 10) == b"line\n"
        os.write(master, b"\x11")
        assert not terminal.events(slave, select.POLLIN)
        assert bool(terminal.events(slave, select.POLLOUT)) == (way == "STOP")
        termios.tcflow(slave, termios.TCOON)
        assert terminal.events(slave, select.POLLOUT)


def test_packet_mode(cycle: Cycle, pair: Pair) -> None:
    pair.silence()
    terminal.set_packet_mode(pair.master, True)
    os.write(pair.slave, b"text\n")
    for master, slave in again(cycle, pair):
        assert terminal.in_packet_mode(master)
        assert os.read(master, 10) == b"\0text\r\n"
        termios.tcflow(slave, termios.TCOOFF)
        assert os.read(master, 10) == b"\x04"


def test_unread_news_of_packet_mode_are_refused(cycle: Cycle, pair: Pair) -> None:
    terminal.set_packet_mode(pair.master, True)
    termios.tcflush(pair.slave, termios.TCIFLUSH)
    with pytest.raises(Refused, match="news of packet mode have not been read"):
        cycle.dump(pair.master, pair.slave)
    assert os.read(pair.master, 10) == b"\x01"


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


def test_lengths_of_lines_that_lie(cycle: Cycle, pair: Pair) -> None:
    """More lines than there is data, and longer ones: what there is comes back."""
    typed(pair, b"line\n")
    cycle.dump(pair.master, pair.slave)
    entries = list(cycle.images.read("TTY_DATA"))
    with cycle.images.writer("TTY_DATA") as image:
        for entry in entries:
            if entry.lines:
                entry.lines[:] = [5, 1 << 31, 7]
            image.put(entry)
    _, slave = _renumbered(cycle, terminal.pty_index(pair.master))
    assert os.read(slave, 100) == b"line\n"
