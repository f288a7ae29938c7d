"""The process that is moved. It ticks, walks through its memory, and notes what it finds and how long it was away.

    python subject.py FILE MEBIBYTES

Each page of its memory starts with its number, and with the tick at which it was visited last. A page that is not as
it was left counts as wrong. What it notes stands in the shared mapping of a file, for whoever reads that.
"""

import mmap
import os
import random
import struct
import sys
import time

NOTES = struct.Struct("<QQQQ")
"""its pid, ticks, wrong pages, nanoseconds of the longest time between two ticks"""
_STAMP = struct.Struct("<QQ")
_TICK_SECONDS = 0.001
PAGES_A_TICK = 8


def main(file_name: str, mebibytes: int) -> None:
    with open(file_name, "r+b") as file:
        notes = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    pages = mebibytes << 8
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    filling = random.Random(pages)
    for page in range(pages):
        memory[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE] = filling.randbytes(mmap.PAGESIZE)
        _STAMP.pack_into(memory, page * mmap.PAGESIZE, page, 0)
    visits = [0] * pages
    pid, tick, wrong, page = os.getpid(), 0, 0, 0
    last = time.monotonic_ns()
    while True:
        time.sleep(_TICK_SECONDS)
        tick += 1
        for _ in range(PAGES_A_TICK):
            wrong += _STAMP.unpack_from(memory, page * mmap.PAGESIZE) != (page, visits[page])
            _STAMP.pack_into(memory, page * mmap.PAGESIZE, page, tick)
            visits[page] = tick
            page = (page + 1) % pages
        now = time.monotonic_ns()
        longest = NOTES.unpack_from(notes)[-1]
        NOTES.pack_into(notes, 0, pid, tick, wrong, max(longest, now - last))
        last = now


if __name__ == "__main__":
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    os.closerange(3, 1 << 10)
    main(sys.argv[1], int(sys.argv[2]))
