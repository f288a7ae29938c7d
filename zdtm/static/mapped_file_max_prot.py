"""Shared mappings of a file whose descriptors are closed: one is read-only now but was made by a writable
descriptor, one was made by a read-only descriptor and can never be written to.

states: memory/shared-file-vma-max-prot
flavours: h
"""

import errno
import os

from zdtm.lib.memory import PAGE, READ, RW, SHARED, mmap, mprotect, pattern, peek, poke
from zdtm.lib.program import check, equal, ready, run

CONTENTS = pattern(1) + pattern(2) + pattern(3)


def main() -> None:
    with open("file", "wb") as file:
        file.write(CONTENTS)
    fd, read_only_fd = os.open("file", os.O_RDWR), os.open("file", os.O_RDONLY)
    sleeping = mmap(PAGE, READ, SHARED, fd)
    writable = mmap(PAGE, RW, SHARED, fd, PAGE)
    forever = mmap(PAGE, READ, SHARED, read_only_fd, 2 * PAGE)
    os.close(fd)
    os.close(read_only_fd)
    ready()
    for number, address in enumerate((sleeping, writable, forever), start=1):
        equal(peek(address, PAGE), pattern(number), f"contents of mapping {number}")
    mprotect(sleeping, PAGE, RW)
    poke(sleeping, b"now written")
    poke(writable, b"still written")
    try:
        mprotect(forever, PAGE, RW)
    except OSError as refusal:
        equal(refusal.errno, errno.EACCES, "errno of making the read-only mapping writable")
    else:
        check(False, "the mapping of a read-only descriptor could be made writable")
    with open("file", "rb") as file:
        text = file.read()
    equal(text[:PAGE], b"now written" + pattern(1)[11:], "first page of the file")
    equal(text[PAGE : 2 * PAGE], b"still written" + pattern(2)[13:], "second page of the file")
    equal(text[2 * PAGE :], pattern(3), "third page of the file")


if __name__ == "__main__":
    run(main)
