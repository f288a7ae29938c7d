"""Pipes whose other ends a process outside of the tree has: one to read from, with data waiting, one to write to, and a
second description of that.

states: pipes-and-fifos/external-pipe-fifo
flavours: h
restore-options: --restore-sibling
outside: Ends
"""

import fcntl
import os

from zdtm.lib.outside import FIRST, Outside
from zdtm.lib.program import check, equal, ready, run

WAITING, ANSWERS = b"was written before the dump", [b"first", b"second"]


class Ends(Outside):
    """Writes once, when the program is started: the data has to come over with the dump."""

    told = False

    def supply(self) -> list[int]:
        from_program, for_program = os.pipe(), os.pipe()
        os.set_blocking(self.keep(from_program[0]), False)
        self.keep(for_program[1])
        if not self.told:
            os.write(for_program[1], WAITING)
            self.told = True
        return [for_program[0], from_program[1]]

    def check(self) -> None:
        equal(os.read(self.kept[0], 64), b"".join(ANSWERS), "what the program has written")
        equal(os.read(self.kept[0], 64), b"", "data after the end of the program")


def main() -> None:
    reader, writer = FIRST, FIRST + 1
    other = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
    ready()
    equal(os.read(reader, 64), WAITING, "what was waiting")
    try:
        check(os.read(reader, 64), "the writer outside is gone")
        check(False, "more to read than was written")
    except BlockingIOError:
        pass
    check(not os.get_blocking(other) and os.get_blocking(writer), "two descriptions have become one")
    for fd, words in zip((writer, other), ANSWERS, strict=True):
        os.write(fd, words)


if __name__ == "__main__":
    run(main)
