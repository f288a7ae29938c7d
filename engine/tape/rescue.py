"""The rescue tape: what a visited task does when its engine is dead, before it goes home (visit.py).

It stands in the scratch area and has places for four calls, of nothing as long as there is nothing to undo: set the
limit on descriptors back, reap a child, and close two descriptors. The last one leads home.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.kernel.libc import NR
from engine.kernel.ptrace import WALL
from engine.tape.tape import HOME, INT32, MAY_FAIL, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.kernel.memory import Memory

NO_FD = 0xFFFFFFFFFFFFFFFF
NOBODY = 0x7FFFFFFF
"""A pid that cannot be, /proc/sys/kernel/pid_max being at most 1 << 22."""
_NOTHING = RECORD.pack(NR["close"], MAY_FAIL, NO_FD, *(0,) * 6)


class RescueTape:
    """The tape of one visit, not there yet.

    address  where it begins
    first    address of the first descriptor that it closes
    second   of the second one
    """

    def __init__(self, memory: Memory, address: int) -> None:
        self._memory = memory
        self.address = address
        self.first = address + 2 * RECORD.size + 8
        self.second = address + 3 * RECORD.size + 8

    def write(self) -> None:
        """Put it there, with nothing to undo."""
        last = RECORD.pack(NR["close"], MAY_FAIL | HOME, NO_FD, *(0,) * 6)
        self._memory.write(self.address, 3 * _NOTHING + last)

    def set_limit(self, resource: int, limit: int) -> None:
        """It has to set a limit of the task. limit: address of the struct rlimit."""
        record = RECORD.pack(NR["setrlimit"], MAY_FAIL, resource, limit, *(0,) * 5)
        self._memory.write(self.address, record)

    @contextmanager
    def reaping(self) -> Iterator[int]:
        """For the length of a with block: it reaps the child whose pid is stored at the address that is yielded."""
        place = self.address + RECORD.size
        self._memory.write(place, RECORD.pack(NR["wait4"], MAY_FAIL, NOBODY, 0, WALL, *(0,) * 4))
        try:
            yield place + 8
        finally:
            self._memory.write(place, _NOTHING)

    def second_descriptor(self) -> int | None:
        """The second descriptor that it closes, if there is one now."""
        (number,) = struct.unpack("<Q", self._memory.read(self.second, 8))
        return None if number & INT32 == NO_FD & INT32 else number & INT32
