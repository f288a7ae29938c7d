"""An unlinked file with two pieces of data of 1 MiB each, while 1 MiB is the most that is saved by default.

states: deleted-files-and-remaps/ghost-size-limit
flavours: h
expect: refuse (?i)ghost
"""

import os

from zdtm.lib.memory import pattern
from zdtm.lib.program import equal, ready, run

MIB = 1 << 20
PIECE = MIB


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    for number in (0, 1):
        os.pwrite(fd, pattern(number + 1, PIECE), number * 10 * MIB)
    os.unlink("file")
    ready()
    equal(os.fstat(fd).st_size, 10 * MIB + PIECE, "size")
    for number in (0, 1):
        equal(os.pread(fd, PIECE, number * 10 * MIB), pattern(number + 1, PIECE), f"piece {number}")
    equal(os.listdir(), [], "names in the directory")


if __name__ == "__main__":
    run(main)
