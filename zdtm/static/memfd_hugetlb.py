"""A memfd of huge pages with a shared and a private mapping.

states: memory/memfd-mappings
flavours: h
kernel: huge pages in the page map
needs: feature memfd_hugetlb
"""

import os

from zdtm.lib.memory import PRIVATE, RW, SHARED, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import equal, ready, run

HUGE = 2 << 20


def main() -> None:
    memfd = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(memfd, 2 * HUGE)
    shared, private = mmap(2 * HUGE, RW, SHARED, memfd), mmap(2 * HUGE, RW, PRIVATE, memfd)
    for number in (0, 1):
        poke(shared + number * HUGE, pattern(number + 1, HUGE))
    poke(private, b"own copy")
    device = os.fstat(memfd).st_dev
    ready()
    equal(os.fstat(memfd).st_dev, device, "device of the memfd")
    equal(os.readlink(f"/proc/self/fd/{memfd}"), "/memfd:huge (deleted)", "name of the memfd")
    equal({vma_at(area).inode for area in (shared, private)}, {os.fstat(memfd).st_ino}, "inodes of the mappings")
    for number in (0, 1):
        equal(peek(shared + number * HUGE, HUGE), pattern(number + 1, HUGE), f"huge page {number}, shared")
    equal(peek(private, HUGE), b"own copy" + pattern(1, HUGE - 8), "huge page 0, private")
    poke(shared, b"by shared")
    poke(shared + HUGE, b"by shared")
    equal(os.pread(memfd, 9, 0), b"by shared", "contents of the memfd after a write to the mapping")
    equal(peek(private, 8), b"own copy", "the private copy after a write to the shared mapping")
    equal(peek(private + HUGE, 9), b"by shared", "the page without a copy after a write to the shared mapping")


if __name__ == "__main__":
    run(main)
