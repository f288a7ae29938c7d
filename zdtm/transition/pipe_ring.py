"""Four processes in a ring of pipes pass records of 1 MiB around, much larger than the pipes.

states: pipes-and-fifos/busy-pipes
flavours: h
"""

import os

from zdtm.lib.program import run
from zdtm.lib.ring import run_ring

TASKS = 4


def main() -> None:
    run_ring([os.pipe() for _ in range(TASKS)])


if __name__ == "__main__":
    run(main)
