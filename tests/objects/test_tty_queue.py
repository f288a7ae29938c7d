"""What is queued in pseudo terminals, both ways: it stays and comes again, whatever the modes."""

from __future__ import annotations

import os
import select
import termios
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.kernel import terminal
from tests.objects.facts import events_of
from tests.objects.terminals import Pair, again, read_all, renumbered, typed
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle


_EXTPROC = 0o200000


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
    _, slave = renumbered(cycle, terminal.pty_index(pair.master))
    assert os.read(slave, 100) == b"line\n"
