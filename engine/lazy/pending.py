"""What of an address space has not come yet: ranges of addresses, each with the place in the images that it is from.

A range keeps its origin wherever mremap(2) takes it. What has been moved by the same distance stands in one list.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    Range = tuple[int, int]


class Piece(NamedTuple):
    """Addresses from start to end. origin: the address that `start` had when the images were made."""

    start: int
    end: int
    origin: int


class Ranges:
    """Ranges that are apart, ascending."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends, strict=True)

    def copy(self) -> Ranges:
        other = Ranges()
        other._starts, other._ends = self._starts.copy(), self._ends.copy()
        return other

    def add(self, start: int, end: int) -> None:
        """Put in what is not in yet; what adjoins becomes one."""
        self.cut(start, end)
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and self._starts[index] == end:
            end = self._ends[index]
            del self._starts[index], self._ends[index]
        if index and self._ends[index - 1] == start:
            self._ends[index - 1] = end
        else:
            self._starts.insert(index, start)
            self._ends.insert(index, end)

    def cut(self, start: int, end: int) -> list[Range]:
        """Take out what lies between start and end, and return it."""
        low, high = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if low >= high:
            return []
        found = list(zip(self._starts[low:high], self._ends[low:high], strict=True))
        rest = [(found[0][0], start)] if found[0][0] < start else []
        if found[-1][1] > end:
            rest.append((end, found[-1][1]))
        self._starts[low:high] = [first for first, _ in rest]
        self._ends[low:high] = [last for _, last in rest]
        found[0] = max(found[0][0], start), found[0][1]
        found[-1] = found[-1][0], min(found[-1][1], end)
        return found

    def next(self, address: int) -> Range | None:
        """The range that has an address, or the first one behind it."""
        index = bisect_right(self._ends, address)
        return (self._starts[index], self._ends[index]) if index < len(self._starts) else None


class Pending:
    """All that one address space still waits for."""

    def __init__(self) -> None:
        self._moved_by: dict[int, Ranges] = {}

    def __bool__(self) -> bool:
        return any(self._moved_by.values())

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(end - start for ranges in self._moved_by.values() for start, end in ranges)

    def copy(self) -> Pending:
        """For the child of a fork."""
        other = Pending()
        other._moved_by = {distance: ranges.copy() for distance, ranges in self._moved_by.items() if ranges}
        return other

    def add(self, start: int, end: int, distance: int = 0) -> None:
        """distance: how far it is from its origin."""
        self._moved_by.setdefault(distance, Ranges()).add(start, end)

    def drop(self, start: int, end: int) -> None:
        """It has come, or is not wanted any more."""
        for ranges in self._moved_by.values():
            ranges.cut(start, end)

    def drop_origin(self, start: int, end: int) -> None:
        """The same for what comes from a part of the images, wherever it is."""
        for distance, ranges in self._moved_by.items():
            ranges.cut(start + distance, end + distance)

    def move(self, start: int, to: int, size: int) -> None:
        """What was at `start` is at `to` now."""
        end = start + size
        moved = [(distance, piece) for distance, ranges in self._moved_by.items() for piece in ranges.cut(start, end)]
        self.drop(to, to + size)
        for distance, (low, high) in moved:
            self.add(low - start + to, high - start + to, distance + to - start)

    def at(self, address: int) -> Piece | None:
        """The piece that has an address."""
        piece = self.next(address)
        return piece if piece and piece.start <= address else None

    def next(self, address: int) -> Piece | None:
        """The piece that has an address, or the first one behind it."""
        found = None
        for distance, ranges in self._moved_by.items():
            piece = ranges.next(address)
            if piece and (found is None or piece[0] < found.start):
                found = Piece(*piece, piece[0] - distance)
        return found

    def from_origin(self, start: int, end: int) -> Piece | None:
        """Some piece whose origin lies between start and end, cut to that."""
        for distance, ranges in self._moved_by.items():
            piece = ranges.next(start + distance)
            if piece and piece[0] < end + distance:
                low, high = max(piece[0], start + distance), min(piece[1], end + distance)
                return Piece(low, high, low - distance)
        return None
