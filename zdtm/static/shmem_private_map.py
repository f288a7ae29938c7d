"""A shared anonymous object mapped three ways: shared, shared again from its third page on, and private from its
second page on with one page copied.

states: memory/private-map-of-anonymous-shmem
flavours: h
needs: root, feature map_files
"""

import os

from zdtm.lib.memory import ANON, PAGE, PRIVATE, RW, SHARED, map_file, mmap, pattern, peek, poke
from zdtm.lib.program import equal, ready, run

PAGES = 8
AGAIN, PRIVATELY = 2, 1
"""First page of the object in the other two mappings"""
COPIED = 4
"""Page of the object that the private mapping has its own copy of"""


def main() -> None:
    whole = mmap(PAGES * PAGE, RW, SHARED | ANON)
    fd = map_file(whole)
    again = mmap((PAGES - AGAIN) * PAGE, RW, SHARED, fd, AGAIN * PAGE)
    private = mmap((PAGES - PRIVATELY) * PAGE, RW, PRIVATE, fd, PRIVATELY * PAGE)
    os.close(fd)
    for page in range(PAGES):
        poke(whole + page * PAGE, pattern(page))
    poke(private + (COPIED - PRIVATELY) * PAGE, pattern(100))
    ready()

    def test(seeds: list[int], when: str) -> None:
        """seeds: of the patterns in the object's pages"""
        for page, seed in enumerate(seeds):
            equal(peek(whole + page * PAGE, PAGE), pattern(seed), f"page {page} {when}")
            if page >= AGAIN:
                equal(peek(again + (page - AGAIN) * PAGE, PAGE), pattern(seed), f"page {page} seen again {when}")
            if page >= PRIVATELY:
                own = 100 if page == COPIED else seed
                address = private + (page - PRIVATELY) * PAGE
                equal(peek(address, PAGE), pattern(own), f"page {page} in the private mapping {when}")

    test(list(range(PAGES)), "after the restore")
    for page in range(AGAIN, PAGES):
        poke(again + (page - AGAIN) * PAGE, pattern(200 + page))
    test([page if page < AGAIN else 200 + page for page in range(PAGES)], "after writes by the second mapping")


if __name__ == "__main__":
    run(main)
