"""The messages of CRIU's page server: 32 bytes each, little-endian, in both directions.

    u32 command | flags << 16    u32 0    u64 nr_pages    u64 vaddr    u64 destination

Pages follow an ADD that is PRESENT, nr_pages * 4096 bytes of them. docs/page-server.md has the whole of it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from engine.errors import CrError

_FORM = struct.Struct("<IIQQQ")
SIZE = _FORM.size
HAS_PARENT = struct.Struct("<B")
"""The answer to OPEN2."""
STATUS = struct.Struct("<i")
"""The answer to PARENT: 1 there are such pages, 0 there are none; and to CLOSE: 0."""

_COMMAND_BITS = 16
_TYPE_BITS = 8
_TYPES = {"PAGEMAP": 1, "SHMEM_PAGEMAP": 2}
_KINDS = {
    **dict.fromkeys((1, 10, 11, 16, 17), "PAGEMAP"),
    **dict.fromkeys((2, 27, 28, 29, 32, 33, 34), "SHMEM_PAGEMAP"),
}
"""Kinds of page maps by the type that says so: the current ones, and those of older versions."""
_LARGEST_ID = (1 << 32) - 1


class Command(IntEnum):
    """What a message asks for."""

    ADD = 1  # a run that is PRESENT
    HOLE = 2  # one of the parent's
    OPEN = 3  # the next page map
    OPEN2 = 4  # the same, answered: are there pages of the parent's?
    PARENT = 5  # asks whether the parent has such a page map
    ADD_F = 6  # a run, with flags
    GET = 7  # asks for pages; destination: the pid alone
    CLOSE = 0x1023
    FORCE_CLOSE = 0x1024


class PageMessage(NamedTuple):
    """One message. vaddr: bytes. flags: PARENT, LAZY, PRESENT of engine.images.runs."""

    command: int
    flags: int = 0
    nr_pages: int = 0
    vaddr: int = 0
    destination: int = 0

    def encode(self) -> bytes:
        return _FORM.pack(
            self.command | self.flags << _COMMAND_BITS, 0, self.nr_pages, self.vaddr, self.destination
        )

    @classmethod
    def decode(cls, data: bytes | memoryview) -> PageMessage:
        """data: SIZE bytes, of whatever origin."""
        command, _, nr_pages, vaddr, destination = _FORM.unpack(data)
        return cls(command & (1 << _COMMAND_BITS) - 1, command >> _COMMAND_BITS, nr_pages, vaddr, destination)


def destination_of(kind: str, id: int) -> int:
    """A page map as messages name it. kind: PAGEMAP, with a virtual pid, or SHMEM_PAGEMAP, with a shmid."""
    return id << _TYPE_BITS | _TYPES[kind]


def page_map_of(destination: int) -> tuple[str, int]:
    """Kind and id of the page map that a message names. CrError: there is no such."""
    kind, id = _KINDS.get(destination & (1 << _TYPE_BITS) - 1), destination >> _TYPE_BITS
    if kind is None or not 0 < id <= _LARGEST_ID:
        raise CrError(f"a message names a page map {destination:#x}, which can't be")
    return kind, id
