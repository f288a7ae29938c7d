"""Runs of pages and their serialised form, fast enough for address spaces with a million of them.

A pagemap entry as written by every current version is

    u32 size | 08 vaddr | 10 compat_nr_pages | 20 flags | 28 nr_pages

with varints for values. Making a protobuf object of each takes 3 µs, which a large task would wait for while frozen.
So encode() joins precomputed pieces, and decode() has the C code of `re` and of protobuf handle thousands at a time:
a regular expression makes sure that everything has exactly this form; the four bytes of the sizes are cut out; what
remains is a message with repeated fields, whose values are the columns of Runs.
"""

from __future__ import annotations

import re
from array import array
from functools import cache, reduce
from itertools import accumulate, chain, repeat
from operator import add, gt, mul, or_

from engine.images.schema import columns
from engine.images.wire import varint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = 4096
PARENT, LAZY, PRESENT = 1, 2, 4
_KNOWN_FLAGS = PARENT | LAZY | PRESENT
_TOP = 1 << 64

# The most that compat_nr_pages, 32 bits wide, can say. A longer run (16 TiB) is written as several.
MAX_RUN = (1 << 32) - 1

_VARINT = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
_SIZE = rb"[\x08-\x24]\0\0\0"
_ENTRY = _SIZE + rb"\x08" + _VARINT + rb"\x10" + _VARINT + rb"\x20[\x00-\x7f]\x28" + _VARINT
_ENTRIES = re.compile(rb"(?:" + _ENTRY + rb")*+")
# As encode() writes them: addresses of whole pages, no varint longer than it has to be, both counts the same. Up to
# 2^63 and 1 TiB.
_ADDRESS = rb"(?:\x80(?:[\x80\xa0\xc0\xe0][\x80-\xff]{0,6}+[\x01-\x7f]|[\x20\x40\x60])|\0)"
_COUNT = rb"([\x01-\x7f]|[\x80-\xff]{1,3}+[\x01-\x7f])"
_OURS = _SIZE + rb"\x08" + _ADDRESS + rb"\x10" + _COUNT + rb"\x20[\x00-\x7f]\x28\1"
_ENTRIES_OF_OURS = re.compile(rb"(?:" + _OURS + rb")*+")
# Sizes of entries, most frequent first: those of user space addresses, 47 bits long, and of shorter runs.
_SIZES = sorted(range(0x08, 0x25), key=lambda size: (size not in (0x0E, 0x10), abs(size - 0x10)))


class Runs:
    """A sequence of (vaddr, nr_pages, flags), kept as three arrays: 24 bytes a run.

    vaddr is in bytes, in a shared memory pagemap from the start of the object. flags: PARENT | LAZY | PRESENT.
    """

    __slots__ = ("flags", "nr_pages", "vaddr")

    def __init__(self, runs: Iterable[tuple[int, int, int]] = ()) -> None:
        self.vaddr = array("Q")
        self.nr_pages = array("Q")
        self.flags = array("Q")
        for vaddr, nr_pages, flags in runs:
            self.append(vaddr, nr_pages, flags)

    def append(self, vaddr: int, nr_pages: int, flags: int) -> None:
        self.vaddr.append(vaddr)
        self.nr_pages.append(nr_pages)
        self.flags.append(flags)

    def __len__(self) -> int:
        return len(self.vaddr)

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        return self.vaddr[index], self.nr_pages[index], self.flags[index]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.vaddr, self.nr_pages, self.flags, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def ends(self) -> list[int]:
        """The address behind each run."""
        return list(map(add, self.vaddr, map(mul, self.nr_pages, repeat(PAGE))))

    def stored_before(self) -> list[int]:
        """For each run, how many pages of earlier runs are in the pages file (PRESENT ones); last, how many of all."""
        stored = (nr if flags & PRESENT else 0 for nr, flags in zip(self.nr_pages, self.flags, strict=True))
        return list(accumulate(stored, initial=0))

    def problem(self) -> str | None:
        """What is wrong with these runs; None: they are aligned, not empty, ascending, apart, and below 2^64."""
        if not len(self):
            return None
        ends = self.ends()
        if (
            reduce(or_, self.vaddr) % PAGE == 0
            and ends[-1] <= _TOP
            and min(self.nr_pages) > 0
            and max(self.flags) <= _KNOWN_FLAGS
            and not any(map(gt, ends, self.vaddr[1:]))
        ):
            return None
        return next(filter(None, map(_problem_of, self, chain((0,), ends))))


def _problem_of(run: tuple[int, int, int], previous_end: int) -> str | None:
    vaddr, nr_pages, flags = run
    what = f"the run of {nr_pages} pages at {vaddr:#x}"
    if vaddr % PAGE:
        return f"{what} does not start on a page boundary"
    if nr_pages == 0:
        return f"{what} is empty"
    if vaddr + nr_pages * PAGE > _TOP:
        return f"{what} goes beyond the end of the address space"
    if flags > _KNOWN_FLAGS:
        return f"{what} has unknown flags {flags:#x}"
    if vaddr < previous_end:
        return f"{what} starts before the run in front of it ends at {previous_end:#x}"
    return None


def decode(data: bytes, runs: Runs) -> int:
    """Append to runs the entries at the start of data that have the usual form. How many bytes they take."""
    end, vaddr, nr_pages, flags = parse(data, exact=False)
    runs.vaddr.fromlist(vaddr)
    runs.nr_pages.fromlist(nr_pages)
    runs.flags.fromlist(flags)
    return end


def parse(data: bytes, exact: bool) -> tuple[int, list[int], list[int], list[int]]:
    """The entries at the start of data that have the usual form: how many bytes they take, vaddr, nr_pages and flags
    of each. exact: only those that are, to the byte, what encode() makes of these.

    The regular expression delimits the entries; their sizes need only add up, which saves looking at each.
    """
    match = (_ENTRIES_OF_OURS if exact else _ENTRIES).match(data)
    end = match.end() if match is not None else 0
    bodies = _without_sizes(data[:end])
    if bodies:
        from google.protobuf.message import DecodeError

        try:
            table = columns("pagemap_entry").FromString(bodies)
            return end, table.vaddr[:], table.nr_pages[:], table.flags[:]
        except DecodeError:
            pass  # values that only another reader can judge
    return 0, [], [], []


def _without_sizes(data: bytes) -> bytes:
    """data, made of entries of the usual form, less the sizes; nothing when they do not add up to its length.

    The three zeros of a small size are nowhere else: a value of zero is one byte, and behind it is a tag or a size.
    """
    bodies, accounted = data, 0
    for size in _SIZES:
        before = len(bodies)
        bodies = bodies.replace(bytes((size, 0, 0, 0)), b"")
        accounted += (before - len(bodies)) // 4 * (size + 4)
        if accounted >= len(data):
            break
    return bodies if accounted == len(data) else b""


def encode(runs: Iterable[tuple[int, int, int]]) -> Iterator[bytes]:
    """Framed pagemap entries of runs, in pieces of some thousand entries.

    Of an address, the low 21 bits are three of a varint's groups of seven, and for whole pages just 512 combinations:
    they come from a table, and the rest changes rarely.
    """
    low = low_addresses()
    highs: dict[int, bytes] = {}
    tails: dict[tuple[int, int], bytes] = {}
    sizes = [size.to_bytes(4, "little") + b"\x08" for size in range(0x25)]
    pieces: list[bytes] = []
    for vaddr, nr_pages, flags in _short(runs):
        high = highs.get(vaddr >> 21)
        if high is None:
            high = highs[vaddr >> 21] = varint(vaddr >> 21)
        tail = tails.get((nr_pages, flags))
        if tail is None:
            count = varint(nr_pages)
            tail = tails[nr_pages, flags] = b"\x10" + count + b"\x20" + varint(flags) + b"\x28" + count
        address = low[vaddr >> 12 & 511] + high if high != b"\0" else varint(vaddr)
        pieces += (sizes[1 + len(address) + len(tail)], address, tail)
        if len(pieces) >= 3 * 16384:
            yield b"".join(pieces)
            pieces.clear()
            highs.clear()
            tails.clear()
    yield b"".join(pieces)


@cache
def low_addresses() -> list[bytes]:
    """The first three bytes of the varint of a longer address, by the page within 2 MiB. Takes a millisecond once."""
    return [varint(1 << 21 | page * PAGE)[:3] for page in range(512)]


def _short(runs: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """runs, with those that compat_nr_pages could not express cut into pieces."""
    for vaddr, nr_pages, flags in runs:
        while nr_pages > MAX_RUN:
            yield vaddr, MAX_RUN, flags
            vaddr, nr_pages = vaddr + MAX_RUN * PAGE, nr_pages - MAX_RUN
        yield vaddr, nr_pages, flags
