"""Parent and child send each other single numbers through two fifos, one at a time.

states: pipes-and-fifos/busy-fifos
flavours: h
modes: not lazy-remote: the tree that stands has data in the same fifo
"""

import os
import struct

from zdtm.lib.pipes import read_all
from zdtm.lib.program import child, equal, go_on, reap, run, running

NUMBER = struct.Struct("=Q")


def answer() -> None:
    down, up = os.open("down", os.O_RDONLY), os.open("up", os.O_WRONLY)
    while text := read_all(down, NUMBER.size):
        os.write(up, NUMBER.pack(NUMBER.unpack(text)[0] * 3))


def main() -> None:
    for name in ("down", "up"):
        os.mkfifo(name)
    pid = child(answer)
    down, up = os.open("down", os.O_WRONLY), os.open("up", os.O_RDONLY)
    running()
    number = 0
    while go_on():
        os.write(down, NUMBER.pack(number))
        equal(NUMBER.unpack(read_all(up, NUMBER.size))[0], number * 3, "the child's answer")
        number += 1
    os.close(down)
    equal(reap(pid), 0, "status of the child")
    equal(read_all(up, 1), b"", "end of file after the child's death")


if __name__ == "__main__":
    run(main)
