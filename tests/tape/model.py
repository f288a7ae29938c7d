"""The interpreter once more, in Python: what the assembly in engine/tape/arch does, over pretended memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from engine.tape.tape import COPY, HOME, LAST, MAY_FAIL, RECORD, RECORD_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = struct.Struct("<Q")
_RESULT_OFFSET = 56
_MASK64 = (1 << 64) - 1


class Machine:
    """Memory that holds a compiled tape at `base`, and a kernel to call: kernel(machine, nr, args) gives the result."""

    def __init__(self, base: int, content: bytes, kernel: Callable[[Machine, int, tuple[int, ...]], int]) -> None:
        self.base = base
        self.memory = bytearray(content)
        self.kernel = kernel
        self.went_home = False

    def word(self, address: int) -> int:
        (value,) = _WORD.unpack_from(self.memory, address - self.base)
        return int(value)

    def put(self, address: int, value: int) -> None:
        _WORD.pack_into(self.memory, address - self.base, value & _MASK64)

    def run(self) -> int:
        """Run the tape; the index of the record that ended it."""
        record = 0
        while True:
            nr, flags, *args, _ = RECORD.unpack_from(self.memory, record * RECORD_SIZE)
            failed = False
            if flags & COPY:
                result = self.word(args[0]) & args[2]
                self.put(args[1], result)
            else:
                result = self.kernel(self, nr, tuple(args))
                failed = -4096 < result < 0
            self.put(self.base + record * RECORD_SIZE + _RESULT_OFFSET, result)
            if failed and not flags & MAY_FAIL:
                return record
            if flags & (HOME | LAST):
                self.went_home = bool(flags & HOME)
                return record
            record += 1
