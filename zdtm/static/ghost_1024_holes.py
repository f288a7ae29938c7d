"""An unlinked file of 8 MiB in which every second page is a hole.

states: deleted-files-and-remaps/ghost-with-1024-holes
flavours: h
options: --ghost-limit 16M
"""

import os

from zdtm.lib.memory import PAGE, pattern
from zdtm.lib.program import equal, ready, run

COUNT = 1024


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    for number in range(COUNT):
        os.pwrite(fd, pattern(number + 1), 2 * number * PAGE)
    os.ftruncate(fd, 2 * COUNT * PAGE)
    os.unlink("file")
    ready()
    equal(os.fstat(fd).st_size, 2 * COUNT * PAGE, "size")
    for number in range(COUNT):
        start = 2 * number * PAGE
        equal(os.lseek(fd, start, os.SEEK_DATA), start, f"start of data {number}")
        equal(os.lseek(fd, start, os.SEEK_HOLE), start + PAGE, f"start of hole {number}")
        equal(os.pread(fd, 2 * PAGE, start), pattern(number + 1) + bytes(PAGE), f"data {number} and the hole after it")


if __name__ == "__main__":
    run(main)
