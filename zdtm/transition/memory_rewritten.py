"""Pages that are written to all the time, at random; each must always hold the version that was written last.

states: memory/memory-mutated-during-iterations
flavours: h
"""

import random

from zdtm.lib.memory import PAGE, mmap, pattern, peek, poke
from zdtm.lib.program import equal, go_on, run, running

PAGES = 2048


def main() -> None:
    area = mmap(PAGES * PAGE)
    versions = [0] * PAGES
    version = 0
    choice = random.Random(1)
    running()
    while go_on():
        version += 1
        page = choice.randrange(PAGES)
        poke(area + page * PAGE, pattern(version))
        versions[page] = version
        other = choice.randrange(PAGES)
        equal(peek(area + other * PAGE, PAGE), pattern(versions[other]), f"page {other} at version {version}")
    for page, expected in enumerate(versions):
        equal(peek(area + page * PAGE, PAGE), pattern(expected), f"page {page} at the end")


if __name__ == "__main__":
    run(main)
