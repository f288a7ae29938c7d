"""A private anonymous mapping of 10 GiB in which a few pages, some beyond 4 GiB, were written.

states: memory/huge-sparse-private-vma
flavours: h
kernel: PAGEMAP_SCAN or /proc/PID/pagemap
"""

from mmap import MADV_NOHUGEPAGE

from zdtm.lib.memory import ANON, FAR, NORESERVE, PAGE, PRIVATE, RW, frame, madvise, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import equal, ready, run

GIB = 1 << 30
LENGTH = 10 * GIB
WRITTEN = [0, PAGE, 2 * GIB - PAGE, 4 * GIB - PAGE, 4 * GIB, 7 * GIB + 3 * PAGE, LENGTH - PAGE]
EMPTY = [2 * PAGE, GIB, 3 * GIB + 3 * PAGE, 4 * GIB + PAGE, 7 * GIB + 2 * PAGE, LENGTH - 2 * PAGE]


def main() -> None:
    start = mmap(LENGTH, RW, PRIVATE | ANON | NORESERVE, address=FAR)
    madvise(start, LENGTH, MADV_NOHUGEPAGE)
    for offset in WRITTEN:
        poke(start + offset, pattern(offset + 1))
    before = vma_at(start)[:2]
    ready()
    equal(vma_at(start)[:2], before, "start and end of the mapping")
    for offset in EMPTY:
        equal(frame(start + offset), None, f"page frame at {offset:#x}, which was never touched")
        equal(peek(start + offset, PAGE), bytes(PAGE), f"contents at {offset:#x}, which was never touched")
    for offset in WRITTEN:
        equal(peek(start + offset, PAGE), pattern(offset + 1), f"contents at {offset:#x}")


if __name__ == "__main__":
    run(main)
