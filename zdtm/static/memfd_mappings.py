"""Shared and private mappings of one memfd, made by two descriptions of which one is closed.

states: memory/memfd-mappings
flavours: h
"""

import os

from zdtm.lib.memory import PAGE, PRIVATE, READ, RW, SHARED, mmap, mprotect, pattern, peek, poke, vma_at
from zdtm.lib.program import check, equal, ready, run

PAGES = 4
COPIED = 2
"""Page of which the private mapping has its own copy"""


def main() -> None:
    memfd = os.memfd_create("mapped")
    for page in range(PAGES):
        os.write(memfd, pattern(page))
    second = os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY)
    shared, private = mmap(PAGES * PAGE, RW, SHARED, memfd), mmap(PAGES * PAGE, RW, PRIVATE, second)
    window = mmap(PAGE, READ, SHARED, memfd, 3 * PAGE)
    forever = mmap(PAGE, READ, SHARED, second)
    os.close(second)
    poke(private + COPIED * PAGE, b"own copy")
    names = [vma_at(address).name for address in (shared, private, window)]
    ready()
    equal([vma_at(address).name for address in (shared, private, window)], names, "names of the mappings")
    inodes = {vma_at(address).inode for address in (shared, private, window)}
    equal(inodes, {os.fstat(memfd).st_ino}, "inodes of the mappings, one and the same as that of the memfd")
    for page in range(PAGES):
        equal(peek(shared + page * PAGE, PAGE), pattern(page), f"page {page} of the shared mapping")
        own = b"own copy" + pattern(page)[8:] if page == COPIED else pattern(page)
        equal(peek(private + page * PAGE, PAGE), own, f"page {page} of the private mapping")

    os.pwrite(memfd, b"new text" * PAGES * (PAGE // 8), 0)
    for page in range(PAGES):
        equal(peek(shared + page * PAGE, 8), b"new text", f"page {page} of the shared mapping after a write")
        expected = b"own copy" if page == COPIED else b"new text"
        equal(peek(private + page * PAGE, 8), expected, f"page {page} of the private mapping after a write")
    poke(shared, b"by shared")
    equal(os.pread(memfd, 9, 0), b"by shared", "what the shared mapping wrote")
    mprotect(window, PAGE, RW)
    poke(window, b"by window")
    equal(os.pread(memfd, 9, 3 * PAGE), b"by window", "what the third mapping wrote")
    try:
        mprotect(forever, PAGE, RW)
    except PermissionError:
        return
    check(False, "the shared mapping of a read-only description could be made writable")


if __name__ == "__main__":
    run(main)
