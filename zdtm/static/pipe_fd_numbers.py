"""Two descriptor numbers hold the ends of two pipes in parent and child, but crosswise: where one task has the
reader, the other has the writer of the same pipe.

states: pipes-and-fifos/pipe-ends-vs-fd-numbers
flavours: h
"""

import os

from zdtm.lib.program import child, equal, ready, reap, run

LOW, HIGH = 100, 101


def put(low: int, high: int, others: tuple[int, ...]) -> None:
    """Place two ends at the agreed numbers and close everything else."""
    os.dup2(low, LOW)
    os.dup2(high, HIGH)
    for fd in (low, high, *others):
        os.close(fd)


def echo() -> None:
    """Reads at LOW, which is the number that the parent writes to, and answers at HIGH until the end of file."""
    while text := os.read(LOW, 64):
        os.write(HIGH, text.upper())


def main() -> None:
    down, up = os.pipe(), os.pipe()

    def body() -> None:
        put(down[0], up[1], (down[1], up[0]))
        os.write(HIGH, b"at work")
        echo()

    pid = child(body)
    put(down[1], up[0], (down[0], up[1]))
    # The child must have its descriptors in place, but its answer stays in the pipe.
    equal(os.read(HIGH, 2), b"at", "first word of the child")
    ready()
    equal(os.read(HIGH, 64), b" work", "data that was in the pipe")
    os.write(LOW, b"ping")
    equal(os.read(HIGH, 64), b"PING", "the child's answer")
    os.close(LOW)
    equal(reap(pid), 0, "status of the child after its end of file")
    equal(os.read(HIGH, 64), b"", "end of file after the child's death")


if __name__ == "__main__":
    run(main)
