"""Stretches of memory whose bytes are in image files, and which of them a new task still has to read.

Copy-on-write sharing across fork is not in images: each task has all its pages there. It comes back by inheritance.
A parent's memory is complete before its children are cloned, and a child then reads only the pages that differ.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from engine.images.runs import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARE_BYTES = 1 << 18


class Segment(NamedTuple):
    """Bytes of an image file that belong at an address."""

    start: int
    end: int
    fd: int
    offset: int

    def cut(self, start: int, end: int) -> Segment:
        return Segment(start, end, self.fd, self.offset + start - self.start)


def to_write(
    own: list[Segment], inherited: list[Segment], kept: list[tuple[int, int]]
) -> tuple[list[Segment], list[tuple[int, int]]]:
    """What a new task has to change in the memory it got from its creator.

    own        its content, ascending
    inherited  its creator's content, ascending
    kept       ranges whose mapping it keeps from its creator, ascending
    Returns (segments to read in, ranges to empty: pages there that it must not have).
    """
    write: list[Segment] = []
    empty: list[tuple[int, int]] = []
    mine, theirs = _Cursor(own), _Cursor(inherited)
    position = 0
    for start, end in kept:
        write += mine.take(position, start)
        for own_part, their_part in _aligned(mine.take(start, end), theirs.take(start, end)):
            if own_part is None:
                assert their_part is not None
                empty.append((their_part.start, their_part.end))
            elif their_part is None:
                write.append(own_part)
            else:
                write += _differing(own_part, their_part)
        position = end
    write += mine.take(position, 1 << 64)
    return write, empty


class _Cursor:
    """Segments, cut at the borders that are asked for, in ascending order."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self._index = 0

    def take(self, start: int, end: int) -> list[Segment]:
        """The parts between start and end."""
        found = []
        while self._index < len(self._segments):
            segment = self._segments[self._index]
            if segment.start >= end:
                break
            low, high = max(segment.start, start), min(segment.end, end)
            if low < high:
                found.append(segment.cut(low, high))
            if segment.end > end:
                break
            self._index += 1
        return found


def outside(segments: list[Segment], ranges: list[tuple[int, int]]) -> list[Segment]:
    """The parts of ascending segments that lie in none of the ascending ranges."""
    cursor = _Cursor(segments)
    found: list[Segment] = []
    position = 0
    for start, end in [*ranges, (1 << 64, 1 << 64)]:
        found += cursor.take(position, start)
        cursor.take(start, end)
        position = end
    return found


def _aligned(own: list[Segment], theirs: list[Segment]) -> Iterator[tuple[Segment | None, Segment | None]]:
    """Both lists cut at each other's borders: pairs of the same range, or one side alone."""
    borders = sorted({border for s in (*own, *theirs) for border in (s.start, s.end)})
    mine, other = _Cursor(own), _Cursor(theirs)
    for start, end in zip(borders, borders[1:], strict=False):
        left, right = mine.take(start, end), other.take(start, end)
        if left or right:
            yield (left[0] if left else None), (right[0] if right else None)


def _differing(own: Segment, theirs: Segment) -> list[Segment]:
    """The parts of `own` whose bytes are not those of `theirs`, page by page where a larger piece differs."""
    result: list[Segment] = []
    for start in range(own.start, own.end, _COMPARE_BYTES):
        end = min(own.end, start + _COMPARE_BYTES)
        a = os.pread(own.fd, end - start, own.offset + start - own.start)
        b = os.pread(theirs.fd, end - start, theirs.offset + start - theirs.start)
        if a == b:
            continue
        for page in range(0, end - start, PAGE):
            if a[page : page + PAGE] == b[page : page + PAGE]:
                continue
            piece = own.cut(start + page, start + page + PAGE)
            if result and result[-1].end == piece.start:
                piece = own.cut(result.pop().start, piece.end)
            result.append(piece)
    return result
