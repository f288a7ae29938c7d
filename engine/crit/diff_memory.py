"""What differs between two address spaces: mappings, then pages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.crit.describe import mapping_text, protection
from engine.crit.diff_fields import fields
from engine.images.pagemap import PageReader
from engine.images.runs import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.crit.image_set import ImageSet, TaskImages
    from engine.images.pagemap import Segment

Message = Any

_FILES = ("exe_file_id", "vmas")
_PLACE = ("start", "end", "shmid", "fd")
_RANGES_SHOWN = 8
_AT_ONCE = 256
"""Pages that are read at once."""


class _Mapping:
    """A vma_entry and what it maps."""

    def __init__(self, entry: Message, images: ImageSet) -> None:
        self.entry = entry
        self.text = mapping_text(entry, images)
        self.size = entry.end - entry.start

    def __str__(self) -> str:
        return f"mapping {self.area} ({protection(self.entry)}{' ' if self.text else ''}{self.text})"

    @property
    def area(self) -> str:
        return f"{self.entry.start:x}-{self.entry.end:x}"

    @property
    def nature(self) -> tuple[object, ...]:
        """By what a mapping that has moved is known again."""
        return self.text, self.size, self.entry.prot, self.entry.flags

    def is_extended(self, other: _Mapping) -> bool:
        """Whether it differs from another one in nothing but where it begins, as a stack that has grown."""
        return (self.entry.end, self.text, self.entry.prot, self.entry.flags) == (
            other.entry.end, other.text, other.entry.prot, other.entry.flags
        )  # fmt: skip


def mappings(old: TaskImages, new: TaskImages, before: ImageSet, after: ImageSet) -> Iterator[str]:
    """What has become of each mapping, and of the layout."""
    was = {entry.start: _Mapping(entry, before) for entry in old.mm.vmas}
    now = {entry.start: _Mapping(entry, after) for entry in new.mm.vmas}
    gone = [was[start] for start in sorted(was.keys() - now.keys())]
    come = [now[start] for start in sorted(now.keys() - was.keys())]
    for start in sorted(was.keys() & now.keys()):
        yield from _same_place(was[start], now[start])
    for mapping in gone:
        found = [other for other in come if other.nature == mapping.nature or other.is_extended(mapping)]
        if not found:
            yield f"{mapping} is gone"
        else:
            come.remove(found[0])
            how = "moved" if found[0].size == mapping.size else "grew" if found[0].size > mapping.size else "shrank"
            yield f"{mapping} {how} to {found[0].area}"
    yield from (f"{mapping} is new" for mapping in come)
    yield from fields(old.mm, new.mm, without=_FILES)


def _same_place(was: _Mapping, now: _Mapping) -> Iterator[str]:
    if was.text != now.text:
        yield f"{was} is another one: {now}"
        return
    if was.size != now.size:
        yield f"{was} {'grew' if now.size > was.size else 'shrank'} to {now.area}"
    yield from (f"{was}: {line}" for line in fields(was.entry, now.entry, without=_PLACE))


def pages(number: int, kind: str, before: ImageSet, after: ImageSet) -> Iterator[str]:
    """How many pages of a page map differ, and where. A page that no image has, is not compared."""
    with PageReader(before.images, number, kind) as old, PageReader(after.images, number, kind) as new:
        differing, gone, come = _Ranges(), _Ranges(), _Ranges()
        for vaddr, count, first, second in _together(list(old.segments()), list(new.segments())):
            if first is None or second is None:
                (come if first is None else gone).add(vaddr, count)
            else:
                _compare(vaddr, count, first, second, differing)
    for ranges, what in (differing, "that differ"), (gone, "only in the first"), (come, "only in the second"):
        if ranges.count:
            yield f"pages {what}, {ranges.count}: {ranges}"


def _together(
    old: list[Segment], new: list[Segment]
) -> Iterator[tuple[int, int, tuple[int, int] | None, tuple[int, int] | None]]:
    """(vaddr, nr_pages, (descriptor, offset) in the first or None, the same in the second), ascending."""
    bounds = sorted({edge for vaddr, count, _, _ in (*old, *new) for edge in (vaddr, vaddr + count * PAGE)})
    sides = iter(old), iter(new)
    current = [next(side, None) for side in sides]
    for start, end in zip(bounds, bounds[1:], strict=False):
        places: list[tuple[int, int] | None] = []
        for index, side in enumerate(sides):
            segment = current[index]
            while segment is not None and segment[0] + segment[1] * PAGE <= start:
                segment = current[index] = next(side, None)
            has = segment is not None and segment[0] <= start
            places.append((segment[2], segment[3] + start - segment[0]) if segment is not None and has else None)
        if places[0] is not None or places[1] is not None:
            yield start, (end - start) // PAGE, places[0], places[1]


def _compare(vaddr: int, count: int, first: tuple[int, int], second: tuple[int, int], found: _Ranges) -> None:
    """Compare stretches of pages, large ones first as a whole."""
    for at in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - at) * PAGE
        one, other = (os.pread(fd, size, offset + at * PAGE) for fd, offset in (first, second))
        if one != other:
            for within in range(0, size, PAGE):
                if one[within : within + PAGE] != other[within : within + PAGE]:
                    found.add(vaddr + at * PAGE + within, 1)


class _Ranges:
    """Pages, as few ranges of addresses."""

    def __init__(self) -> None:
        self.count = 0
        self._ranges: list[list[int]] = []
        self._more = 0

    def add(self, vaddr: int, count: int) -> None:
        """Ascending."""
        self.count += count
        if self._ranges and self._ranges[-1][1] == vaddr:
            self._ranges[-1][1] += count * PAGE
        elif len(self._ranges) < _RANGES_SHOWN:
            self._ranges.append([vaddr, vaddr + count * PAGE])
        else:
            self._more += count

    def __str__(self) -> str:
        shown = ", ".join(f"{start:x}-{end:x}" for start, end in self._ranges)
        return f"{shown} and {self._more} more" if self._more else shown
