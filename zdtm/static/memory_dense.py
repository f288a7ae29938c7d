"""512 MiB of private memory, every page written, in which some 512 scattered pages were then made inaccessible.

states: memory/large-dense-private-memory
flavours: h
slow: 512 MiB are written, stored, and read by the oracle before and after
"""

import random

from zdtm.lib.memory import FAR, NONE, PAGE, READ, mmap, mprotect, pattern, peek, poke, readable, vmas
from zdtm.lib.program import check, equal, ready, run

PAGES = (512 << 20) // PAGE
STEP = 256
"""Pages compared at once"""


def text(first: int) -> bytes:
    return b"".join(pattern(page) for page in range(first + 1, first + 1 + STEP))


def main() -> None:
    start = mmap(PAGES * PAGE, address=FAR)
    for page in range(0, PAGES, STEP):
        poke(start + page * PAGE, text(page))
    closed = set(random.Random(512).sample(range(PAGES), 512))
    for page in closed:
        mprotect(start + page * PAGE, PAGE, NONE)
    inside = [vma[:3] for vma in vmas() if start <= vma.start < start + PAGES * PAGE]
    ready()
    equal([vma[:3] for vma in vmas() if start <= vma.start < start + PAGES * PAGE], inside, "areas and their rights")
    check(not any(readable(start + page * PAGE) for page in closed), "an inaccessible page has become readable")
    mprotect(start, PAGES * PAGE, READ)
    for page in range(0, PAGES, STEP):
        equal(peek(start + page * PAGE, STEP * PAGE), text(page), f"contents of {STEP} pages from page {page}")


if __name__ == "__main__":
    run(main)
