"""A shared anonymous area across a fork: the parent has all of it, one child only its second half, another child
may only read it.

states: memory/shared-anonymous-memory-shmem
flavours: h
kernel: /proc/PID/map_files
"""

from zdtm.lib.gate import Gate
from zdtm.lib.memory import (
    ANON,
    PAGE,
    READ,
    RW,
    SHARED,
    mmap,
    mprotect,
    munmap,
    pattern,
    peek,
    poke,
    readable,
    writable,
)
from zdtm.lib.program import child, equal, ready, reap, run

PAGES = 8
HALF = PAGES // 2 * PAGE


def test_all(area: int, first: int, seed: int, who: str) -> None:
    """Pages from the first one on hold their patterns."""
    for page in range(first, PAGES):
        equal(peek(area + page * PAGE, PAGE), pattern(seed + page), f"page {page} in the {who}")


def main() -> None:
    area = mmap(PAGES * PAGE, RW, SHARED | ANON)
    for page in range(PAGES):
        poke(area + page * PAGE, pattern(page))

    def half() -> None:
        munmap(area, HALF)
        first.wait()
        equal(readable(area), False, "the half that the child had unmapped is there")
        test_all(area, PAGES // 2, 100, "child with one half")
        for page in range(PAGES // 2, PAGES):
            poke(area + page * PAGE, pattern(200 + page))

    def reader() -> None:
        mprotect(area, PAGES * PAGE, READ)
        second.wait()
        equal(writable(area), False, "right of the reader to write")
        test_all(area, PAGES // 2, 200, "reader")

    # The second gate is made after the first child: children that held each other's gate would outlive the parent.
    first = Gate()
    halved = child(half)
    second = Gate()
    reading = child(reader)
    first.expect(1)
    second.expect(1)
    ready()
    test_all(area, 0, 0, "parent")
    for page in range(PAGES):
        poke(area + page * PAGE, pattern(100 + page))
    first.open()
    equal(reap(halved), 0, "status of the child with one half")
    test_all(area, PAGES // 2, 200, "parent, after the child has written")
    second.open()
    equal(reap(reading), 0, "status of the reader")


if __name__ == "__main__":
    run(main)
