"""Three processes in a ring of named fifos, made as large as a fifo can be, pass records of 1 MiB around.

states: pipes-and-fifos/busy-fifos
flavours: h
modes: not lazy-remote: the tree that stands has data in the same fifo
"""

import fcntl
import os

from zdtm.lib.program import run
from zdtm.lib.ring import run_ring

TASKS = 3
MIB = 1 << 20


def link(number: int) -> tuple[int, int]:
    name = f"fifo{number}"
    os.mkfifo(name)
    # A reader that does not wait for a writer, so that one task can open both ends.
    reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(name, os.O_WRONLY)
    os.set_blocking(reader, True)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, MIB)
    return reader, writer


def main() -> None:
    run_ring([link(number) for number in range(TASKS)])


if __name__ == "__main__":
    run(main)
