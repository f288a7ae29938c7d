"""Unlinked fifos: one open for reading and writing, one with a nonblocking reader and a writer, one that holds data
and has only a reader left.

states: pipes-and-fifos/unlinked-fifo, pipes-and-fifos/ghost-fifo-with-data
flavours: h
"""

import os
import stat

from zdtm.lib.pipes import drain, numbered
from zdtm.lib.program import check, equal, ready, run

DATA = numbered(256)


def unlinked_fifo(mode: int, *flags: int) -> list[int]:
    """Descriptors of one fifo, a separate description for each item of flags."""
    os.mkfifo("fifo")
    os.chmod("fifo", mode)
    fds = [os.open("fifo", flag) for flag in flags]
    os.unlink("fifo")
    return fds


def main() -> None:
    (both,) = unlinked_fifo(0o604, os.O_RDWR)
    reader, writer = unlinked_fifo(0o620, os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY)
    left, gone = unlinked_fifo(0o600, os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY)
    os.write(gone, DATA)
    os.close(gone)
    modes = {both: 0o604, reader: 0o620, writer: 0o620, left: 0o600}
    ready()
    equal(os.listdir(), [], "names in the directory")
    for fd, mode in modes.items():
        status = os.fstat(fd)
        check(stat.S_ISFIFO(status.st_mode), f"descriptor {fd} is no fifo")
        equal(stat.S_IMODE(status.st_mode), mode, f"mode of descriptor {fd}")
        equal(status.st_nlink, 0, f"names of the fifo of descriptor {fd}")
    equal(len({os.fstat(fd).st_ino for fd in (both, reader, left)}), 3, "number of different fifos")
    check(os.path.sameopenfile(reader, writer), "reader and writer have come apart")

    equal(drain(left), DATA, "data of the fifo without a writer")
    equal(os.read(left, 1), b"", "end of file of the fifo without a writer")
    os.write(both, b"to itself")
    equal(os.read(both, 64), b"to itself", "data through the fifo with one description")
    os.write(writer, b"across")
    equal(os.read(reader, 64), b"across", "data through the fifo with two descriptions")
    os.close(writer)
    equal(os.read(reader, 64), b"", "end of file after the writer was closed")


if __name__ == "__main__":
    run(main)
