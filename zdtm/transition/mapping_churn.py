"""Parent and child map, unmap, protect and write random parts of a large area all the time, each for itself.

states: memory/mapping-churn
flavours: h
kernel: how mappings are merged
"""

import random

from zdtm.lib.gate import Gate
from zdtm.lib.memory import (
    ANON,
    FAR,
    FIXED,
    NONE,
    PAGE,
    PRIVATE,
    READ,
    RW,
    mmap,
    mprotect,
    munmap,
    pattern,
    peek,
    poke,
    readable,
    writable,
)
from zdtm.lib.program import child, equal, go_on, reap, run, running

PAGES = 512
LONGEST = 32
UNMAPPED = -1
RIGHTS = [UNMAPPED, NONE, READ, RW, RW, RW]


class Model:
    """What should be in the area."""

    def __init__(self) -> None:
        self.rights = [UNMAPPED] * PAGES
        self.seeds = [0] * PAGES
        """of the pattern in each page; 0 is a page that was never written, full of zeros"""

    def step(self, choice: random.Random) -> None:
        """One change, here and in the area."""
        first = choice.randrange(PAGES)
        pages = range(first, min(first + choice.randint(1, LONGEST), PAGES))
        start, length = FAR + first * PAGE, len(pages) * PAGE
        rights = choice.choice(RIGHTS)
        if rights == UNMAPPED:
            munmap(start, length)
        elif choice.random() < 0.5 or any(self.rights[page] == UNMAPPED for page in pages):
            mmap(length, rights, PRIVATE | ANON | FIXED, address=start)
            self.fill(pages, 0)
        else:
            mprotect(start, length, rights)
        for page in pages:
            self.rights[page] = rights
        if rights == RW:
            written = choice.sample(pages, len(pages) // 2)
            seed = choice.getrandbits(60) | 1
            for page in written:
                poke(FAR + page * PAGE, pattern(seed))
            self.fill(written, seed)

    def fill(self, pages: range | list[int], seed: int) -> None:
        for page in pages:
            self.seeds[page] = seed

    def test(self, who: str) -> None:
        for page, (rights, seed) in enumerate(zip(self.rights, self.seeds, strict=True)):
            address = FAR + page * PAGE
            equal(
                (readable(address), writable(address)), (rights in (READ, RW), rights == RW), f"rights of page {page}"
            )
            if rights == NONE:
                mprotect(address, PAGE, READ)
            if rights != UNMAPPED:
                equal(peek(address, PAGE), pattern(seed), f"page {page} in the {who}")


def main() -> None:
    model = Model()
    choice = random.Random(1)
    for _ in range(100):
        model.step(choice)
    gate = Gate()

    def body() -> None:
        own = random.Random(2)
        gate.settle()
        while not gate.is_open():
            model.step(own)
        model.test("child")

    pid = child(body)
    gate.expect(1)
    running()
    while go_on():
        model.step(choice)
    gate.open()
    model.test("parent")
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
