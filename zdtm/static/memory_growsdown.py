"""Grow-down areas: a lone one, one that mprotect() has split in three, one that has already grown, and two with a
hole between them. All keep the ability to grow.

states: memory/map-growsdown-stacks
flavours: h
kernel: gaps below stacks
"""

from zdtm.lib.memory import (
    ANON,
    FAR,
    FIXED_NOREPLACE,
    GROWSDOWN,
    PAGE,
    PRIVATE,
    READ,
    RW,
    mmap,
    mprotect,
    pattern,
    peek,
    poke,
    vmas,
)
from zdtm.lib.program import equal, ready, run

ROOM = 4096 * PAGE
"""Free space for one case. The kernel keeps 256 pages free between a grow-down area and what is below it."""
PAGES = 4


def stack(end: int) -> int:
    """A grow-down area of PAGES pages below end, each page written. Gives its start."""
    start = end - PAGES * PAGE
    mmap(PAGES * PAGE, RW, PRIVATE | ANON | GROWSDOWN | FIXED_NOREPLACE, address=start)
    for page in range(start, end, PAGE):
        poke(page, pattern(page))
    return start


def layout() -> list[tuple[int, int, str, bool]]:
    """What is in the four rooms: start, end, rights, and whether it grows down."""
    inside = [vma for vma in vmas() if FAR <= vma.start < FAR + 4 * ROOM]
    return [(vma.start, vma.end, vma.perms, "gd" in vma.flags) for vma in inside]


def main() -> None:
    lone = stack(FAR + ROOM)
    split = stack(FAR + 2 * ROOM)
    mprotect(split + PAGE, PAGE, READ)
    grown = stack(FAR + 3 * ROOM)
    poke(grown - PAGE, pattern(grown - PAGE))
    grown -= PAGE
    above = stack(FAR + 4 * ROOM)
    below = stack(above - 400 * PAGE)
    before = layout()
    ready()
    equal(layout(), before, "areas, their rights, and whether they grow down")
    for start, end, _, _ in before:
        for page in range(start, end, PAGE):
            equal(peek(page, PAGE), pattern(page), f"contents of the page at {page:#x}")
    for start in (lone, split, grown, above, below):
        poke(start - PAGE, b"grown")
        equal(peek(start - PAGE, PAGE), b"grown" + bytes(PAGE - 5), f"page below the area at {start:#x}")


if __name__ == "__main__":
    run(main)
