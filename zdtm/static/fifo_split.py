"""Two fifos with data whose ends are spread over parent and child, so that neither has both ends of either.

states: pipes-and-fifos/fifo-ro-wo-split-over-tasks
flavours: h
modes: not lazy-remote: the tree that stands has data in the same fifo
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.pipes import drain, numbered
from zdtm.lib.program import child, equal, ready, reap, run

DOWN_TEXT, UP_TEXT = numbered(4096), numbered(20000, start=1000)


def main() -> None:
    gate = Gate()
    for name in ("down", "up"):
        os.mkfifo(name)

    def body() -> None:
        # Each open waits for the other side's; both open in the same order.
        down, up = os.open("down", os.O_RDONLY), os.open("up", os.O_WRONLY)
        os.write(up, UP_TEXT)
        gate.wait()
        equal(drain(down), DOWN_TEXT, "what the parent had written")
        os.write(up, b"good")
        equal(os.read(down, 64), b"bye", "what the parent wrote afterwards")
        equal(os.read(down, 64), b"", "end of file in the child")

    pid = child(body)
    down, up = os.open("down", os.O_WRONLY), os.open("up", os.O_RDONLY)
    os.write(down, DOWN_TEXT)
    gate.expect(1)
    ready()
    equal(drain(up), UP_TEXT, "what the child had written")
    gate.open()
    equal(os.read(up, 64), b"good", "what the child wrote afterwards")
    os.write(down, b"bye")
    os.close(down)
    equal(reap(pid), 0, "status of the child")
    equal(os.read(up, 64), b"", "end of file in the parent")


if __name__ == "__main__":
    run(main)
