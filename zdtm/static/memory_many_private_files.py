"""10240 private mappings of single file pages, some copied by a write, each followed by an anonymous page.

states: memory/many-file-backed-private-vmas
flavours: h
slow: the kernel tells of 20480 areas several times, and each page is compared by itself
"""

import os

from zdtm.lib.memory import ANON, FAR, FIXED, NONE, PAGE, PRIVATE, RW, mmap, pattern, peek, poke, vmas
from zdtm.lib.program import equal, ready, run

COUNT = 10240
FILE_PAGES = 64


def layout() -> list[tuple[int, int, str, int, int]]:
    inside = [vma for vma in vmas() if FAR <= vma.start < FAR + 2 * COUNT * PAGE]
    return [(vma.start, vma.end, vma.perms, vma.offset, vma.inode) for vma in inside]


def contents(number: int) -> bytes:
    """Of a mapping of the file: every third one was written to."""
    return pattern(1000 + number) if number % 3 == 0 else pattern(number * 7 % FILE_PAGES)


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    for page in range(FILE_PAGES):
        os.write(fd, pattern(page))
    mmap(2 * COUNT * PAGE, NONE, address=FAR)
    for number in range(COUNT):
        page = FAR + 2 * number * PAGE
        mmap(PAGE, RW, PRIVATE | FIXED, fd, number * 7 % FILE_PAGES * PAGE, page)
        mmap(PAGE, RW, PRIVATE | ANON | FIXED, address=page + PAGE)
        if number % 3 == 0:
            poke(page, contents(number))
        poke(page + PAGE, pattern(2 * COUNT + number))
    os.close(fd)
    before = layout()
    equal(len(before), 2 * COUNT, "number of areas")
    ready()
    equal(layout(), before, "areas, their rights and files")
    for number in range(COUNT):
        page = FAR + 2 * number * PAGE
        equal(peek(page, PAGE), contents(number), f"mapping {number} of the file")
        equal(peek(page + PAGE, PAGE), pattern(2 * COUNT + number), f"anonymous page {number}")


if __name__ == "__main__":
    run(main)
