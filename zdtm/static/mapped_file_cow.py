"""Private and shared mappings of one file: of the private one some pages are the task's own copies, the others still
show what is written to the file.

states: memory/many-file-backed-private-vmas
flavours: h
kernel: pages of files in the page map
"""

import os

from zdtm.lib.memory import PAGE, PRIVATE, READ, RW, SHARED, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import equal, ready, run

PAGES = 8
COPIED = {1, 4, 5}
"""Pages of the private mapping that were written to"""


def page(mapping: int, number: int) -> int:
    return mapping + number * PAGE


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    for number in range(PAGES):
        os.write(fd, pattern(number))
    private, shared = mmap(PAGES * PAGE, RW, PRIVATE, fd), mmap(PAGES * PAGE, RW, SHARED, fd)
    tail = mmap(2 * PAGE, READ, PRIVATE, fd, (PAGES - 2) * PAGE)
    os.close(fd)
    for number in COPIED:
        poke(page(private, number), b"own copy")
    poke(page(shared, 4), b"the file")
    equal(peek(page(private, 7), 8), pattern(7)[:8], "an untouched page of the private mapping")
    before = [vma_at(mapping)[:7] for mapping in (private, shared, tail)]
    ready()
    equal(
        [vma_at(mapping)[:7] for mapping in (private, shared, tail)], before, "place, rights and file of the mappings"
    )
    for number in range(PAGES):
        rest = pattern(number)[8:]
        own = b"own copy" if number in COPIED else pattern(number)[:8]
        common = b"the file" if number == 4 else pattern(number)[:8]
        equal(peek(page(private, number), PAGE), own + rest, f"page {number} of the private mapping")
        equal(peek(page(shared, number), PAGE), common + rest, f"page {number} of the shared mapping")

    for number in range(PAGES):
        poke(page(shared, number), b"new text")
    for number in range(PAGES):
        expected = b"own copy" if number in COPIED else b"new text"
        equal(peek(page(private, number), 8), expected, f"page {number} of the private mapping after a write")
    equal(peek(tail, 8), b"new text", "the mapping at an offset after a write")
    with open("file", "rb") as file:
        equal(file.read(8), b"new text", "the file after a write to the shared mapping")


if __name__ == "__main__":
    run(main)
