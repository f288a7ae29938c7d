"""Droppable memory (MAP_DROPPABLE): the kernel may take any page away at any time, so after a restore each page holds
what was written or zeros, and nothing else.

states: memory/map-droppable-madv-wipeonfork
flavours: h
kernel: MAP_DROPPABLE
needs: feature map_droppable
"""

from zdtm.lib.memory import ANON, DROPPABLE, FAR, PAGE, RW, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import check, equal, ready, run

PAGES = 16


def main() -> None:
    area = mmap(PAGES * PAGE, RW, DROPPABLE | ANON, address=FAR)
    for page in range(PAGES):
        poke(area + page * PAGE, pattern(page + 1))
    flags = vma_at(area).flags
    check("dp" in flags, "smaps does not show the area as droppable")
    ready()
    equal(vma_at(area)[:3], (area, area + PAGES * PAGE, "rw-p"), "borders and rights of the area")
    equal(vma_at(area).flags, flags, "flags of the area")
    for page in range(PAGES):
        contents = peek(area + page * PAGE, PAGE)
        check(contents in (bytes(PAGE), pattern(page + 1)), f"page {page} holds something that nobody has written")
        poke(area + page * PAGE, pattern(page))


if __name__ == "__main__":
    run(main)
