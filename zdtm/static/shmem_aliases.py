"""A shared anonymous object of 1 GiB with a few pages in it and many ways to see them: a hole punched by munmap(),
a part moved by mremap(), a second mapping at an offset made through /proc/self/map_files, and a child with it all.

states: memory/shared-anonymous-memory-shmem
flavours: h
kernel: /proc/PID/map_files
needs: root, feature map_files
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.memory import (
    ANON,
    FAR,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    RW,
    SHARED,
    map_file,
    mmap,
    mremap,
    munmap,
    pattern,
    peek,
    poke,
    readable,
    vma_at,
)
from zdtm.lib.program import check, child, equal, ready, reap, run

MIB = 1 << 20
LENGTH = 1024 * MIB
HOLE, HOLE_END = 200 * MIB, 300 * MIB
MOVED, MOVED_END = 512 * MIB, 768 * MIB
WINDOW, WINDOW_END = 100 * MIB, 600 * MIB
WHOLE, ELSEWHERE, SECOND = FAR, FAR + 4 * LENGTH, FAR + 8 * LENGTH
"""Addresses of the first mapping, of the part that was moved away from it, and of the second mapping"""
WRITTEN = [0, 99 * MIB, 150 * MIB, 200 * MIB, 299 * MIB, 550 * MIB, 700 * MIB, LENGTH - PAGE]


def aliases(offset: int) -> list[int]:
    """All addresses of one byte of the object."""
    found = []
    if MOVED <= offset < MOVED_END:
        found.append(ELSEWHERE + offset - MOVED)
    elif not HOLE <= offset < HOLE_END:
        found.append(WHOLE + offset)
    if WINDOW <= offset < WINDOW_END:
        found.append(SECOND + offset - WINDOW)
    return found


def set_up() -> None:
    mmap(LENGTH, RW, SHARED | ANON, address=WHOLE)
    fd = map_file(WHOLE)
    mmap(WINDOW_END - WINDOW, RW, SHARED, fd, WINDOW, SECOND)
    os.close(fd)
    for offset in WRITTEN:
        poke(WHOLE + offset, pattern(offset + 1))
    munmap(WHOLE + HOLE, HOLE_END - HOLE)
    mremap(WHOLE + MOVED, MOVED_END - MOVED, MOVED_END - MOVED, MREMAP_MAYMOVE | MREMAP_FIXED, ELSEWHERE)


def blocks() -> int:
    """How much memory the object takes, in units of 512 bytes."""
    fd = map_file(WHOLE)
    try:
        return os.fstat(fd).st_blocks
    finally:
        os.close(fd)


def test_contents(seed: int, who: str) -> None:
    for offset in WRITTEN:
        for address in aliases(offset):
            equal(peek(address, PAGE), pattern(offset + seed), f"contents at {offset:#x} by {address:#x} in the {who}")


def main() -> None:
    set_up()
    gate = Gate()

    def body() -> None:
        gate.wait()
        test_contents(2, "child")

    pid = child(body)
    gate.expect(1)
    before = blocks()
    ready()
    equal(blocks(), before, "memory that the object takes, in blocks")
    inodes = {vma_at(address).inode for address in (WHOLE, WHOLE + HOLE_END, ELSEWHERE, SECOND)}
    equal(len(inodes), 1, "number of objects behind the mappings")
    check(not readable(WHOLE + HOLE), "something is mapped in the hole")
    check(not readable(WHOLE + MOVED), "something is mapped where a part was moved away")
    test_contents(1, "parent")
    equal(peek(SECOND + 300 * MIB, PAGE), bytes(PAGE), "a page that was never written")
    for offset in WRITTEN:
        poke(aliases(offset)[0], pattern(offset + 2))
    test_contents(2, "parent")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
