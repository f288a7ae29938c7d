"""A child shrinks and grows its window on a shared anonymous object all the time; the parent has all of it. Both write
to it.

states: memory/shmem-resized-by-mremap
flavours: h
"""

import random
import struct

from zdtm.lib.gate import Gate
from zdtm.lib.memory import ANON, MREMAP_MAYMOVE, PAGE, RW, SHARED, mmap, mremap, peek, poke
from zdtm.lib.program import child, equal, go_on, reap, run, running

PAGES = (32 << 20) // PAGE
COUNTER = struct.Struct("=Q")
PARENTS, CHILDS = 0, 8
"""Where each has its counter in every page"""


def count(address: int) -> None:
    (value,) = COUNTER.unpack(peek(address, COUNTER.size))
    poke(address, COUNTER.pack(value + 1))


def total(area: int, where: int) -> int:
    return sum(COUNTER.unpack(peek(area + page * PAGE + where, COUNTER.size))[0] for page in range(PAGES))


def main() -> None:
    area = mmap(PAGES * PAGE, RW, SHARED | ANON)
    gate = Gate()
    shared_total = mmap(PAGE, RW, SHARED | ANON)

    def body() -> None:
        choice = random.Random(2)
        window, pages, written = area, PAGES, 0
        gate.settle()
        while not gate.is_open():
            wanted = choice.randint(1, PAGES)
            window = mremap(window, pages * PAGE, wanted * PAGE, MREMAP_MAYMOVE)
            pages = wanted
            for _ in range(16):
                count(window + choice.randrange(pages) * PAGE + CHILDS)
                written += 1
        window = mremap(window, pages * PAGE, PAGES * PAGE, MREMAP_MAYMOVE)
        equal(total(window, CHILDS), written, "sum of the child's counters as the child sees them")
        poke(shared_total, COUNTER.pack(written))

    pid = child(body)
    gate.expect(1)
    choice = random.Random(1)
    written = 0
    running()
    while go_on():
        count(area + choice.randrange(PAGES) * PAGE + PARENTS)
        written += 1
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal(total(area, PARENTS), written, "sum of the parent's counters")
    equal(total(area, CHILDS), COUNTER.unpack(peek(shared_total, COUNTER.size))[0], "sum of the child's counters")


if __name__ == "__main__":
    run(main)
