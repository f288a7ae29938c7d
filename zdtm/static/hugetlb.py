"""Huge pages (MAP_HUGETLB), private and shared, across a fork: a private area that only the child has written since,
and a shared one.

states: memory/map-hugetlb-memory, memory/hugetlb-across-fork
flavours: h
kernel: huge pages in the page map
needs: feature huge_pages
"""

from zdtm.lib.gate import Gate
from zdtm.lib.memory import ANON, HUGETLB, PRIVATE, RW, SHARED, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import check, child, equal, ready, reap, run

HUGE = 2 << 20
TEXT = 3 * 4096


def main() -> None:
    private, common, shared = (mmap(HUGE, RW, kind | ANON | HUGETLB) for kind in (PRIVATE, PRIVATE, SHARED))
    areas = {private: 1, common: 2, shared: 3}
    for area, seed in areas.items():
        poke(area, pattern(seed, HUGE))
    devices = [vma_at(area).device for area in areas]
    gate = Gate()

    def body() -> None:
        poke(private, pattern(10, TEXT))
        gate.wait()
        check("ht" in vma_at(private).flags, "the child's memory is not of huge pages")
        equal(peek(private, HUGE), pattern(10, TEXT) + pattern(1, HUGE - TEXT), "private memory of the child")
        equal(peek(common, HUGE), pattern(2, HUGE), "private memory that nobody has written since the fork")
        equal(peek(shared, HUGE), pattern(20, TEXT) + pattern(3, HUGE - TEXT), "shared memory in the child")

    pid = child(body)
    gate.expect(1)
    ready()
    equal([vma_at(area).device for area in areas], devices, "devices of the areas")
    for area, seed in areas.items():
        check("ht" in vma_at(area).flags, f"area {seed} is not of huge pages")
        equal(peek(area, HUGE), pattern(seed, HUGE), f"contents of area {seed}")
    poke(shared, pattern(20, TEXT))
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
