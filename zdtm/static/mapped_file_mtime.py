"""A file that was written by a shared mapping, which gave it its time of modification; the mapping is still there.

states: files/mtime-after-mmap-write
flavours: h
"""

import os

from zdtm.lib.memory import PAGE, RW, SHARED, mmap, pattern, peek, poke
from zdtm.lib.program import check, equal, ready, run

LONG_AGO = 123456789


def mapped(name: str) -> int:
    with open(name, "w+b") as file:
        file.write(pattern(1) + pattern(2))
        file.flush()
        area = mmap(2 * PAGE, RW, SHARED, file.fileno())
    os.utime(name, ns=(LONG_AGO, LONG_AGO))
    return area


def times() -> dict[str, int]:
    return {name: os.stat(name).st_mtime_ns for name in ("written", "only mapped")}


def main() -> None:
    written, untouched = mapped("written"), mapped("only mapped")
    poke(written, b"by mapping")
    before = times()
    check(before["written"] != LONG_AGO, "the write by the mapping left no time behind")
    equal(before["only mapped"], LONG_AGO, "time of the untouched file in nanoseconds")
    ready()
    equal(times(), before, "times of modification in nanoseconds")
    equal(peek(written, 2 * PAGE), b"by mapping" + pattern(1)[10:] + pattern(2), "contents by the mapping")
    equal(peek(untouched, 2 * PAGE), pattern(1) + pattern(2), "contents of the untouched file")
    with open("written", "rb") as file:
        equal(file.read(), peek(written, 2 * PAGE), "contents of the file")
    poke(untouched, b"now")
    check(times()["only mapped"] != LONG_AGO, "a write by the other mapping left no time behind")


if __name__ == "__main__":
    run(main)
