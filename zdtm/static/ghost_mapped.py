"""Mappings of unlinked files: private ones of a file that nobody has open, made with different rights through two
names; and private and shared ones of a file that is still open.

states: deleted-files-and-remaps/unlinked-mapped-file, deleted-files-and-remaps/unlinked-mapped-file-via-two-links,
    deleted-files-and-remaps/unlinked-mapped-open-file
flavours: h
"""

import os

from zdtm.lib.memory import (
    NONE,
    PAGE,
    PRIVATE,
    READ,
    RW,
    SHARED,
    mmap,
    mprotect,
    pattern,
    peek,
    poke,
    readable,
    vma_at,
    writable,
)
from zdtm.lib.program import equal, ready, run


def make(name: str) -> int:
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(1) + pattern(2) + pattern(3))
    return fd


def main() -> None:
    closed = make("closed")
    os.link("closed", "also closed")
    other = os.open("also closed", os.O_RDONLY)
    rights = {mmap(3 * PAGE, prot, PRIVATE, fd): prot for fd in (closed, other) for prot in (NONE, READ, RW)}
    copied = mmap(3 * PAGE, RW, PRIVATE, other)
    poke(copied + PAGE, b"own copy")
    for fd in (closed, other):
        os.close(fd)

    fd = make("open")
    shared, private = mmap(2 * PAGE, RW, SHARED, fd, PAGE), mmap(3 * PAGE, RW, PRIVATE, fd)
    poke(private, b"own copy")
    poke(shared, b"by map..")
    for name in ("closed", "also closed", "open"):
        os.unlink(name)
    names = {vma_at(address).name for address in (*rights, copied, shared, private)}
    ready()
    equal(os.listdir(), [], "names in the directory")
    for address, prot in rights.items():
        equal((readable(address), writable(address)), (prot != NONE, prot == RW), f"rights at {address:#x}")
        mprotect(address, 3 * PAGE, READ)
        equal(peek(address, 3 * PAGE), pattern(1) + pattern(2) + pattern(3), f"contents at {address:#x}")
    equal(peek(copied, 3 * PAGE), pattern(1) + b"own copy" + pattern(2)[8:] + pattern(3), "mapping with a copied page")
    equal(
        len({vma_at(address).inode for address in (*rights, copied)}), 1, "number of files behind the private mappings"
    )

    equal(os.pread(fd, 8, PAGE), b"by map..", "contents of the open file")
    os.pwrite(fd, b"by write", 2 * PAGE)
    equal(peek(shared + PAGE, 8), b"by write", "the shared mapping after a write to the file")
    equal(peek(private + 2 * PAGE, 8), b"by write", "the private mapping after a write to the file")
    equal(peek(private, 8), b"own copy", "the copied page of the private mapping")
    poke(shared, b"by poke.")
    equal(os.pread(fd, 8, PAGE), b"by poke.", "the file after a write to the shared mapping")
    equal({vma_at(address).name for address in (*rights, copied, shared, private)}, names, "names of the mappings")


if __name__ == "__main__":
    run(main)
