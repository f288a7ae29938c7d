"""The arithmetic of incremental dumps: which pages are left to the parent images; copying those of a running task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.images.runs import PAGE, PARENT, PRESENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.kernel.memory import Memory
    from engine.task.pages import Run
    from engine.task.segments import Segment
    from engine.transport.sink import PageSink

    Range = tuple[int, int]

_COMPARE_BYTES = 1 << 18
_COPY_BYTES = 1 << 20
_END = 1 << 64, 1 << 64


def refer_to_parent(runs: list[Run], unchanged: list[Range]) -> list[Run]:
    """The runs, with those parts that lie in ascending ranges left to the parent images."""
    found: list[Run] = []
    offset = 0
    borders = iter([*unchanged, _END])
    low, high = next(borders)
    for run in runs:
        position = run.start
        while position < run.end:
            while high <= position:
                low, high = next(borders)
            inside = low <= position
            end = min(run.end, high if inside else low)
            if inside:
                found.append(run._replace(start=position, end=end, flags=PARENT, offset=0))
            else:
                found.append(run._replace(start=position, end=end, offset=offset))
                offset += end - position
            position = end
    return found


def common(left: list[Range], right: list[Range]) -> list[Range]:
    """What two lists of ascending ranges have in common."""
    found: list[Range] = []
    others = iter([*right, _END])
    low, high = next(others)
    for start, end in left:
        while high <= start:
            low, high = next(others)
        while low < end:
            found.append((max(start, low), min(end, high)))
            if high > end:
                break
            low, high = next(others)
    return found


def same_bytes(memory: Memory, segment: Segment) -> Iterator[Range]:
    """The pages of a segment of an image that a task has with the same content, as ranges."""
    for start in range(segment.start, segment.end, _COMPARE_BYTES):
        end = min(segment.end, start + _COMPARE_BYTES)
        now = memory.read(start, end - start)
        then = os.pread(segment.fd, end - start, segment.offset + start - segment.start)
        if now == then:
            yield start, end
            continue
        for page in range(0, end - start, PAGE):
            if now[page : page + PAGE] == then[page : page + PAGE]:
                yield start + page, start + page + PAGE


def copy_running(memory: Memory, runs: list[Run], sink: PageSink) -> Iterator[int]:
    """Copy pages of a task that runs on. Yields the sizes of the portions.

    What has gone meanwhile is left out, as zeros. The next dump has no use for it: a page that is not the one that was
    watched counts as changed.
    """
    for run in runs:
        position = run.start if run.flags & PRESENT else run.end
        for start in range(position, run.end, _COPY_BYTES):
            for at, content in _readable(memory, start, min(run.end, start + _COPY_BYTES)):
                sink.skip(at - position)
                sink.put(content)
                position = at + len(content)
                yield len(content)
        sink.skip(run.end - position)


def _readable(memory: Memory, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """What can be read of a range: all of it at once, or else page by page."""
    try:
        yield start, memory.read(start, end - start)
    except OSError:
        for page in range(start, end, PAGE) if end - start > PAGE else ():
            yield from _readable(memory, page, page + PAGE)
