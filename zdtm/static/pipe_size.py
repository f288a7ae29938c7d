"""Pipes made larger and smaller than the default: one of 1 MiB that is full, one of 1 MiB that is empty, one of a
single page that is full.

states: pipes-and-fifos/pipe-size
flavours: h
"""

import fcntl
import os

from zdtm.lib.memory import PAGE
from zdtm.lib.pipes import capacity, drain, fill, is_full, unread
from zdtm.lib.program import check, equal, ready, run

MIB = 1 << 20


def pipe_of(size: int) -> tuple[int, int]:
    reader, writer = os.pipe()
    equal(fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size), size, "size given to the pipe")
    return reader, writer


def main() -> None:
    large, empty, small = pipe_of(MIB), pipe_of(MIB), pipe_of(PAGE)
    contents = {pipe: fill(pipe[1]) for pipe in (large, small)}
    ready()
    for pipe, size in ((large, MIB), (empty, MIB), (small, PAGE)):
        for end in pipe:
            equal(capacity(end), size, "size of a pipe")
    equal(unread(empty[0]), 0, "bytes in the empty pipe")
    for pipe, text in contents.items():
        check(is_full(pipe[1]), f"the full pipe of {len(text)} bytes has room")
        equal(drain(pipe[0]), text, f"contents of the pipe of {len(text)} bytes")
    equal(len(fill(empty[1])), MIB, "bytes that fit the empty pipe")


if __name__ == "__main__":
    run(main)
