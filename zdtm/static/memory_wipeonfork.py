"""Memory that a fork wipes (MADV_WIPEONFORK): the owner keeps it, a child that was forked before the checkpoint and one
that is forked afterwards find zeros, and so does a grandchild in what the child has written since.

states: memory/map-droppable-madv-wipeonfork
flavours: h
kernel: flags of mappings
"""

from zdtm.lib.gate import Gate
from zdtm.lib.memory import FAR, MADV_WIPEONFORK, PAGE, madvise, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import check, child, equal, ready, reap, run

PAGES = 8


def main() -> None:
    area = mmap(2 * PAGES * PAGE, address=FAR)
    madvise(area, PAGES * PAGE, MADV_WIPEONFORK)
    kept = area + PAGES * PAGE
    for page in range(2 * PAGES):
        poke(area + page * PAGE, pattern(page))
    gate = Gate()

    def wiped() -> None:
        equal(peek(area, PAGES * PAGE), bytes(PAGES * PAGE), "wiped memory")

    def body() -> None:
        wiped()
        poke(area + PAGE, pattern(100))
        gate.wait()
        expected = bytes(PAGE) + pattern(100) + bytes((PAGES - 2) * PAGE)
        equal(peek(area, PAGES * PAGE), expected, "what the child has found and written")
        equal(peek(kept, PAGE), pattern(PAGES), "memory beside it, in the child")
        check("wf" in vma_at(area).flags, "the child's memory would not be wiped by a fork any more")
        equal(reap(child(wiped)), 0, "status of the grandchild")

    pid = child(body)
    gate.expect(1)
    ready()
    for page in range(2 * PAGES):
        equal(peek(area + page * PAGE, PAGE), pattern(page), f"page {page} in the owner")
    check("wf" in vma_at(area).flags and "wf" not in vma_at(kept).flags, "what is wiped is not what was")
    equal(reap(child(wiped)), 0, "status of a child forked afterwards")
    gate.open()
    equal(reap(pid), 0, "status of the child forked before")


if __name__ == "__main__":
    run(main)
