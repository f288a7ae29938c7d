"""Descriptors at every power of two below the limit and at the limit, in a table shared by two tasks and in that of
a third one: wherever an engine keeps its own, it meets one of these.

states: files/descriptor-numbers
flavours: h
"""

import os
import resource

from zdtm.lib.libc import fork_sharing_files
from zdtm.lib.proc import open_fds
from zdtm.lib.program import child, equal, finish, ready, run, wait_term

LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
NUMBERS = [1 << bit for bit in range(2, 31) if 1 << bit < LIMIT - 1] + [LIMIT - 1]


def test(expected: list[int], offset: int) -> None:
    """Each descriptor is there and has an offset that tells which one it is."""
    equal(open_fds(), expected, f"descriptors of task {os.getpid()}")
    for fd in NUMBERS:
        equal(os.lseek(fd, 0, os.SEEK_CUR), fd + offset, f"offset of descriptor {fd}")


def open_all(offset: int) -> None:
    for fd in NUMBERS:
        opened = os.open("file", os.O_RDWR | os.O_CREAT)
        os.lseek(opened, fd + offset, os.SEEK_SET)
        if opened != fd:
            os.dup2(opened, fd)
            os.close(opened)


def main() -> None:
    open_all(0)
    ready_reader, ready_writer = os.pipe()

    def sharer() -> None:
        wait_term()
        test(common, 0)

    def loner() -> None:
        open_all(1000)
        expected = open_fds()
        os.write(ready_writer, b"!")
        wait_term()
        test(expected, 1000)

    common = open_fds()
    sharing = child(sharer, block_term=True, fork=fork_sharing_files)
    alone = child(loner, block_term=True)
    os.read(ready_reader, 1)
    ready()
    test(common, 0)
    finish(sharing)
    finish(alone)


if __name__ == "__main__":
    run(main)
