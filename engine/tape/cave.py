"""Caves: where the engine's code stands in a task that it visits.

A cave is zero bytes that nothing uses, in memory that is executable already: behind the end of the vDSO, or, in a task
that has unmapped its vDSO, in the padding at the end of some program's or library's code. Writing there copies the page
for this task alone, changes no byte that anybody reads, and the bytes are zeros again after the visit.

An engine that is killed leaves its code behind: the task runs it to come home. It harms nobody, and the next engine
takes the same place for its own.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.tape import arch as architectures
from engine.tape.arch import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.kernel.memory import Memory

_ALIGN = 64
_MARGIN = 16
"""Bytes behind the last one that is not zero which may belong to it all the same: the zeros at the end of a table."""


class Cave:
    """size zero bytes at address. original: what is to stand there after the visit."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        self.original = bytes(size)

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.address + self.size


def find_cave(memory: Memory, areas: Iterable[tuple[int, int]], size: int) -> Cave:
    """Room for `size` bytes at the end of one of these areas, the first that has it.

    areas: (start, end) of executable private mappings. Raises CrError when none has room.
    """
    for start, end in areas:
        begin = max(start, end - 2 * PAGE)
        try:
            content = memory.read(begin, end - begin)
        except OSError as error:
            # A mapping that reaches beyond the end of its file. A task that is gone is no such thing.
            if error.errno != errno.EIO:
                raise
            continue
        address = begin + -(-_used(content) // _ALIGN) * _ALIGN
        if address + size <= end:
            return Cave(address, size)
    raise CrError(f"task {memory.pid}: no executable mapping has {size} bytes free to enter it by")


def _used(content: bytes) -> int:
    """Bytes from the start that must be left alone."""
    left_behind = content.find(architectures.current().INTERPRETER)
    if left_behind >= 0:
        content = content[:left_behind]
    used = len(content.rstrip(b"\0"))
    return used and used + _MARGIN
