"""Seven processes write all the time to three shared anonymous objects, of which each sees windows of its own: cut at
both ends, moved away, and mapped a second time.

states: memory/shmem-in-a-process-tree-under-iteration
flavours: h
needs: root, feature map_files
"""

import os
import struct
from functools import partial

from zdtm.lib.gate import Gate
from zdtm.lib.memory import (
    ANON,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    RW,
    SHARED,
    map_file,
    mmap,
    mremap,
    munmap,
    peek,
    poke,
)
from zdtm.lib.program import child, equal, ready, reap, run

OBJECTS, PAGES, TASKS = 3, 64, 7
COUNTER = struct.Struct("=Q")
"""Each task has a counter of its own in every page."""


def borders(task: int, number: int) -> tuple[int, int]:
    """First page and last page + 1 of what a task keeps of an object."""
    return 1 + (task * 5 + number * 7) % 24, PAGES - 1 - (task * 3 + number) % 20


class Window:
    """What a task has kept of an object: some pages, seen at two places."""

    def __init__(self, area: int, task: int, number: int) -> None:
        self.first, self.end = borders(task, number)
        length = (self.end - self.first) * PAGE
        fd = map_file(area)
        self.again = mmap(length, RW, SHARED, fd, self.first * PAGE)
        os.close(fd)
        munmap(area, self.first * PAGE)
        munmap(area + self.end * PAGE, (PAGES - self.end) * PAGE)
        # A new mapping keeps the place free until the window takes it.
        place = mmap(length)
        self.moved = mremap(area + self.first * PAGE, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, place)

    def counter(self, page: int, task: int, moved: bool) -> int:
        """Address of a counter in one of the two mappings."""
        return (self.moved if moved else self.again) + (page - self.first) * PAGE + task * COUNTER.size

    def count(self, task: int, value: int) -> None:
        """Write this value to every page, to each by another mapping than to the last one."""
        for page in range(self.first, self.end):
            poke(self.counter(page, task, page % 2 == 0), COUNTER.pack(value))

    def test(self, final: list[int], kept: list[tuple[int, int]]) -> None:
        """final: last value of each task's counter. kept: first and end of the window of each task."""
        for page in range(self.first, self.end):
            for task, (first, end) in enumerate(kept):
                expected = final[task] if first <= page < end else 0
                for moved in (True, False):
                    (value,) = COUNTER.unpack(peek(self.counter(page, task, moved), COUNTER.size))
                    equal(value, expected, f"counter of task {task} in page {page}")


def main() -> None:
    areas = [mmap(PAGES * PAGE, RW, SHARED | ANON) for _ in range(OBJECTS)]
    stop, look = Gate(), Gate()
    finals = mmap(PAGE, RW, SHARED | ANON)

    def work(task: int) -> None:
        below = [child(partial(work, number)) for number in (2 * task + 1, 2 * task + 2) if number < TASKS]
        windows = [Window(area, task, number) for number, area in enumerate(areas)]
        stop.settle()
        value = 0
        while not stop.is_open():
            value += 1
            for window in windows:
                window.count(task, value)
        poke(finals + task * COUNTER.size, COUNTER.pack(value))
        look.wait()
        final = [COUNTER.unpack(peek(finals + number * COUNTER.size, COUNTER.size))[0] for number in range(TASKS)]
        for number, window in enumerate(windows):
            window.test(final, [borders(other, number) for other in range(TASKS)])
        for pid in below:
            equal(reap(pid), 0, "status of a task below")

    top = child(partial(work, 0))
    stop.expect(TASKS)
    ready()
    stop.open()
    look.expect(TASKS)
    look.open()
    equal(reap(top), 0, "status of the task at the top")


if __name__ == "__main__":
    run(main)
