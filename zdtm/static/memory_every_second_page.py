"""Memory of which every second page was written, in an area that may have huge pages: bytes written to the others
after the restore must not disturb it.

states: memory/thp-vs-lazy-restore
flavours: h
kernel: PAGEMAP_SCAN or /proc/PID/pagemap
"""

from mmap import MADV_HUGEPAGE

from zdtm.lib.memory import FAR, PAGE, madvise, mmap, pattern, peek, poke
from zdtm.lib.program import equal, ready, run

LENGTH = 8 << 20


def main() -> None:
    area = mmap(LENGTH, address=FAR)
    for offset in range(0, LENGTH, 2 * PAGE):
        poke(area + offset, pattern(offset + 1))
    # Only now: the pages in between must not come with the first byte that is written.
    madvise(area, LENGTH, MADV_HUGEPAGE)
    ready()
    for offset in range(PAGE, LENGTH, 2 * PAGE):
        poke(area + offset + 17, b"byte")
    for offset in range(0, LENGTH, 2 * PAGE):
        equal(peek(area + offset, PAGE), pattern(offset + 1), f"page at {offset:#x}, which was written before")
        expected = bytes(17) + b"byte" + bytes(PAGE - 21)
        equal(peek(area + offset + PAGE, PAGE), expected, f"page at {offset + PAGE:#x}, which was written afterwards")


if __name__ == "__main__":
    run(main)
