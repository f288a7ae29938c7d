"""A named fifo, opened for reading and writing at once, that is full.

states: pipes-and-fifos/fifo-with-data
flavours: h
modes: not lazy-remote: the tree that stands has data in the same fifo
"""

import os
import stat

from zdtm.lib.pipes import drain, fill, is_full
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    os.mkfifo("fifo")
    os.chmod("fifo", 0o624)
    fd = os.open("fifo", os.O_RDWR)
    contents = fill(fd)
    before = os.fstat(fd)
    ready()
    after = os.fstat(fd)
    check(stat.S_ISFIFO(after.st_mode), "the descriptor is no fifo")
    equal(stat.S_IMODE(after.st_mode), 0o624, "mode of the fifo")
    equal((after.st_dev, after.st_ino), (before.st_dev, before.st_ino), "device and inode of the fifo")
    equal(os.listdir(), ["fifo"], "names in the directory")
    check(os.path.samestat(os.stat("fifo"), after), "the name is another fifo")
    check(is_full(fd), "the full fifo has room")
    equal(drain(fd), contents, "contents of the fifo")

    # A newcomer by name meets the same pipe.
    os.write(fd, b"by descriptor")
    newcomer = os.open("fifo", os.O_RDONLY)
    equal(os.read(newcomer, 64), b"by descriptor", "data read by name")


if __name__ == "__main__":
    run(main)
