"""A full fifo that nobody can write to any more: its only open end is a reader.

states: pipes-and-fifos/fifo-reader-only
flavours: h
modes: not lazy-remote: the tree that stands has data in the same fifo
"""

import os

from zdtm.lib.pipes import capacity, drain, fill
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    os.mkfifo("fifo", 0o600)
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    contents = fill(reader)
    ready()
    equal(os.listdir(), ["fifo"], "names in the directory")
    equal(capacity(reader), len(contents), "size of the fifo")
    check(not os.get_blocking(reader), "the reader has become blocking")
    equal(drain(reader), contents, "contents of the fifo")
    equal(os.read(reader, 1), b"", "end of file: the fifo has no writer")
    writer = os.open("fifo", os.O_WRONLY)
    os.write(writer, b"again")
    equal(os.read(reader, 64), b"again", "data from a new writer")


if __name__ == "__main__":
    run(main)
