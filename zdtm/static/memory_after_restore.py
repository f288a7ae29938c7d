"""Memory that is not looked at, but forked, dropped, moved, grown and exchanged right after the restore, when a lazy
one has not brought it in yet.

states: memory/userfault-lazy-memory-events
flavours: h
kernel: how mappings are merged
"""

from mmap import MADV_DONTNEED

from zdtm.lib.memory import FAR, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE, madvise, mmap, mremap, munmap, pattern, peek, poke
from zdtm.lib.program import child, equal, ready, reap, run

PAGES = 64
LENGTH = PAGES * PAGE


def area(number: int) -> int:
    """Filled, and with room behind it to grow."""
    start = mmap(LENGTH, address=FAR + 4 * number * LENGTH)
    for page in range(PAGES):
        poke(start + page * PAGE, pattern(number * PAGES + page + 1))
    return start


def expect(start: int, number: int, what: str, first: int = 0, end: int = PAGES) -> None:
    """start: where the first one of these pages is now"""
    for page in range(first, end):
        contents = peek(start + (page - first) * PAGE, PAGE)
        equal(contents, pattern(number * PAGES + page + 1), f"page {page} of memory that was {what}")


def main() -> None:
    forked, dropped, moved, grown, left, right, cut = (area(number) for number in range(7))
    ready()
    pid = child(lambda: expect(forked, 0, "forked, in the child"))

    madvise(dropped + 8 * PAGE, 16 * PAGE, MADV_DONTNEED)
    equal(peek(dropped + 8 * PAGE, 16 * PAGE), bytes(16 * PAGE), "dropped pages")
    expect(dropped, 1, "not dropped", end=8)
    expect(dropped + 24 * PAGE, 1, "not dropped", first=24)

    elsewhere = mremap(moved, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, FAR + 1000 * LENGTH)
    expect(elsewhere, 2, "moved")

    bigger = mremap(grown, LENGTH, 2 * LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, FAR + 2000 * LENGTH)
    equal(peek(bigger + LENGTH, LENGTH), bytes(LENGTH), "pages that memory has grown by")
    expect(bigger, 3, "grown")

    between = mremap(left, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, FAR + 3000 * LENGTH)
    mremap(right, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, left)
    mremap(between, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, right)
    expect(left, 5, "exchanged")
    expect(right, 4, "exchanged")

    munmap(cut + 10 * PAGE, PAGE)
    mmap(PAGE, address=cut + 10 * PAGE)
    equal(peek(cut + 10 * PAGE, PAGE), bytes(PAGE), "a new page in place of an old one")
    expect(cut + 11 * PAGE, 6, "cut", first=11)

    equal(reap(pid), 0, "status of the child")
    expect(forked, 0, "forked, in the parent")


if __name__ == "__main__":
    run(main)
