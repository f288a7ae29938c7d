"""Pseudo terminals for tests: made, filled, dumped and restored beside themselves."""

from __future__ import annotations

import os
import select
import termios
from typing import TYPE_CHECKING, Any

from engine.kernel import terminal
from tests.objects.facts import events_of

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle


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


def again(cycle: Cycle, pair: Pair) -> list[tuple[int, int]]:
    """Dump a terminal and restore it: (master, slave) of the first and the second one. The first is not closed, so the
    second gets another number."""
    cycle.dump(pair.master, pair.slave)
    ends = pair.master, pair.slave
    number = terminal.pty_index(pair.master)
    twin = renumbered(cycle, number)
    return [ends, (twin[0], twin[1])]


def renumbered(cycle: Cycle, old: int) -> list[int]:
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
