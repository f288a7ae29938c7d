"""Guard pages (MADV_GUARD_INSTALL) in anonymous memory, in a private mapping of a file, and in memory that a fork
wipes together with its guards: they fault, also in a child forked afterwards, and their neighbours keep their contents.

states: memory/guard-pages-madv-guard-install
flavours: h
kernel: guard regions
needs: feature pagemap_scan_guard_pages
"""

import os

from zdtm.lib.memory import (
    FAR,
    MADV_GUARD_INSTALL,
    MADV_WIPEONFORK,
    PAGE,
    PRIVATE,
    RW,
    madvise,
    mmap,
    pattern,
    peek,
    poke,
    readable,
    vma_at,
    writable,
)
from zdtm.lib.program import child, equal, ready, reap, run

PAGES = 16
GUARDED = {0, 3, 4, 5, 9, PAGES - 1}
MADV_GUARD_REMOVE = MADV_GUARD_INSTALL + 1


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    for page in range(PAGES):
        os.write(fd, pattern(page))
    length = PAGES * PAGE
    anonymous, wiped, of_file = (
        mmap(length, address=FAR),
        mmap(length, address=FAR + 2 * length),
        mmap(length, RW, PRIVATE, fd),
    )
    madvise(wiped, length, MADV_WIPEONFORK)
    for area in (anonymous, wiped, of_file):
        for page in range(PAGES):
            if area != of_file or page % 2:
                poke(area + page * PAGE, pattern(page))
        for page in GUARDED:
            madvise(area + page * PAGE, PAGE, MADV_GUARD_INSTALL)

    def test(*areas: int) -> None:
        for area in areas:
            for page in range(PAGES):
                address, free = area + page * PAGE, page not in GUARDED
                equal((readable(address), writable(address)), (free, free), f"rights of page {page} at {area:#x}")
                if free:
                    equal(peek(address, PAGE), pattern(page), f"page {page} at {area:#x}")

    def body() -> None:
        test(anonymous, of_file)
        equal(peek(wiped, length), bytes(length), "memory that the fork has wiped")

    ready()
    equal(vma_at(anonymous)[:3], (anonymous, anonymous + length, "rw-p"), "borders and rights of the anonymous area")
    equal(reap(child(body)), 0, "status of a child forked afterwards")
    test(anonymous, wiped, of_file)
    for area in (anonymous, wiped, of_file):
        madvise(area, length, MADV_GUARD_REMOVE)
        for page in GUARDED:
            gone = pattern(page) if area == of_file else bytes(PAGE)
            equal(peek(area + page * PAGE, PAGE), gone, f"page {page} at {area:#x} without its guard")


if __name__ == "__main__":
    run(main)
