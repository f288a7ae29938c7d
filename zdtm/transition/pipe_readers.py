"""One writer fills a pipe with numbered words, three processes read from it whatever each can get.

states: pipes-and-fifos/busy-pipes
flavours: h
"""

import os
from functools import partial

from zdtm.lib.pipes import WORD, numbered, write_all
from zdtm.lib.program import child, equal, go_on, reap, run, running

READERS = 3
MOST = 9_000_000
"""Numbers begin anew after this one, for they have room for seven digits only"""
PIECE = 4096
"""Bytes of one write. Up to this size the kernel does not mix it with others, and readers take whole words."""


def main() -> None:
    reader, writer = os.pipe()

    def read_words(result: str) -> None:
        os.close(writer)
        total = count = 0
        while text := os.read(reader, PIECE):
            for word in text.split():
                total += int(word)
                count += 1
        with open(result, "w") as file:
            file.write(f"{count} {total}")

    pids = [child(partial(read_words, f"reader{number}")) for number in range(READERS)]
    os.close(reader)
    running()
    words = total = 0
    while go_on():
        text = numbered(PIECE, start=words % MOST)
        write_all(writer, text)
        words += PIECE // WORD
        total += sum(map(int, text.split()))
    os.close(writer)
    for pid in pids:
        equal(reap(pid), 0, "status of a reader")
    sums = [0, 0]
    for number in range(READERS):
        with open(f"reader{number}") as file:
            for index, value in enumerate(file.read().split()):
                sums[index] += int(value)
    equal(sums[0], words, "number of words that all readers have got")
    equal(sums[1], total, "sum of those words")


if __name__ == "__main__":
    run(main)
