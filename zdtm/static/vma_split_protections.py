"""One private anonymous area in which mprotect() gave neighbouring pages different rights.

states: memory/vma-protections
flavours: h
"""

from zdtm.lib.memory import NONE, PAGE, READ, RW, RWX, mmap, mprotect, pattern, peek, poke, readable, vmas, writable
from zdtm.lib.program import equal, ready, run

RIGHTS = [NONE, READ, RW, RWX]
PAGES = 64


def right_of(page: int) -> int:
    """Runs of one to four pages with the same right; every right meets every other one at some border."""
    runs = [run for run in range(PAGES) for _ in range(run % 4 + 1)]
    return RIGHTS[(runs[page] * 3 + runs[page] // 4) % 4]


def split(start: int) -> list[tuple[int, str]]:
    """The areas inside, as the kernel shows them: first page and rights."""
    inside = [vma for vma in vmas() if start < vma.end and vma.start < start + PAGES * PAGE]
    return [((vma.start - start) // PAGE, vma.perms) for vma in inside]


def main() -> None:
    # Unreachable pages around it keep the area from merging with what is next to it.
    start = mmap((PAGES + 2) * PAGE, NONE) + PAGE
    mprotect(start, PAGES * PAGE, RW)
    for page in range(PAGES):
        poke(start + page * PAGE, pattern(page + 1))
    for page in range(PAGES):
        mprotect(start + page * PAGE, PAGE, right_of(page))
    before = split(start)
    ready()
    equal(split(start), before, "areas and their rights")
    for page in range(PAGES):
        address = start + page * PAGE
        equal(readable(address), right_of(page) != NONE, f"right to read page {page}")
        equal(writable(address), right_of(page) in (RW, RWX), f"right to write page {page}")
        mprotect(address, PAGE, READ)
        equal(peek(address, PAGE), pattern(page + 1), f"contents of page {page}")


if __name__ == "__main__":
    run(main)
