"""4096 areas of one page with gaps between them, and two grow-down areas that touch each other.

states: memory/many-small-vmas
flavours: h
"""

from zdtm.lib.memory import ANON, FAR, FIXED_NOREPLACE, GROWSDOWN, PAGE, PRIVATE, RW, mmap, pattern, peek, poke, vmas
from zdtm.lib.program import check, equal, ready, run

COUNT = 4096
GROW_PAGES = 4
GROWING = FAR + 2 * COUNT * PAGE + 1024 * PAGE
"""Where the grow-down areas are: with more than a stack guard gap (256 pages) of free space below."""
END = GROWING + 2 * GROW_PAGES * PAGE


def layout() -> list[tuple[int, int, str, bool]]:
    """All of these areas: start, end, rights, and whether it grows down."""
    inside = [vma for vma in vmas() if FAR <= vma.start < END]
    return [(vma.start, vma.end, vma.perms, "gd" in vma.flags) for vma in inside]


def main() -> None:
    for number in range(COUNT):
        page = mmap(PAGE, RW, PRIVATE | ANON | FIXED_NOREPLACE, address=FAR + 2 * number * PAGE)
        poke(page, pattern(number))
    for area in (GROWING + GROW_PAGES * PAGE, GROWING):
        mmap(GROW_PAGES * PAGE, RW, PRIVATE | ANON | GROWSDOWN | FIXED_NOREPLACE, address=area)
    for page in range(2 * GROW_PAGES):
        poke(GROWING + page * PAGE, pattern(COUNT + page))
    before = layout()
    check(len(before) > COUNT, "areas have merged, this tests nothing")
    ready()
    equal(layout(), before, "areas, their rights, and whether they grow down")
    for number in range(COUNT):
        equal(peek(FAR + 2 * number * PAGE, PAGE), pattern(number), f"contents of area {number}")
    for page in range(2 * GROW_PAGES):
        equal(peek(GROWING + page * PAGE, PAGE), pattern(COUNT + page), f"page {page} of the grow-down areas")


if __name__ == "__main__":
    run(main)
