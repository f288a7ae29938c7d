"""A named fifo whose writer is in the parent and whose reader is in a child that is blocked in read().

states: pipes-and-fifos/fifo-writer-only-in-this-task
flavours: h
"""

import os

from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run, wait_until


def read_on() -> None:
    reader = os.open("fifo", os.O_RDONLY)
    equal(os.read(reader, 64), b"after", "data that ended the read")
    equal(os.read(reader, 64), b"", "end of file after the parent closed the writer")


def main() -> None:
    os.mkfifo("fifo")
    pid = child(read_on)
    writer = os.open("fifo", os.O_WRONLY)
    wait_until(lambda: stat(pid).state == "S", "the child sleeps in read()")
    ready()
    os.write(writer, b"after")
    os.close(writer)
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
