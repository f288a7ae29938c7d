"""Private pages that were written before a fork and by nobody since are one frame in parent and child; those that
one of them has written are two.

states: memory/cow-sharing
flavours: h
kernel: PAGEMAP_SCAN or /proc/PID/pagemap
needs: root
modes: not lazy: a page that comes later comes to each task for itself
"""

from zdtm.lib.gate import Gate
from zdtm.lib.memory import PAGE, frame, mmap, pattern, peek, poke
from zdtm.lib.program import check, child, equal, ready, reap, run

PAGES = 64


def writer_of(page: int) -> str:
    """Who wrote this page after the fork: runs of common pages lie between those of one task."""
    return {3: "parent", 5: "child", 6: "both"}.get(page % 8, "nobody")


def expected(page: int, who: str) -> bytes:
    writer = writer_of(page)
    if writer not in (who, "both"):
        return pattern(page)
    return pattern(1000 + page) if who == "parent" else pattern(2000 + page)


def main() -> None:
    area = mmap(PAGES * PAGE)
    for page in range(PAGES):
        poke(area + page * PAGE, pattern(page))
    gate = Gate()

    def write(who: str) -> None:
        for page in range(PAGES):
            if writer_of(page) in (who, "both"):
                poke(area + page * PAGE, expected(page, who))

    def test(who: str) -> None:
        for page in range(PAGES):
            equal(peek(area + page * PAGE, PAGE), expected(page, who), f"page {page} in the {who}")

    def body() -> None:
        write("child")
        gate.wait()
        test("child")
        for page in range(PAGES):
            poke(area + page * PAGE, pattern(3000))

    pid = child(body)
    write("parent")
    gate.expect(1)
    ready()
    for page in range(PAGES):
        address = area + page * PAGE
        mine, childs = frame(address), frame(address, pid)
        check(mine is not None and childs is not None, f"page {page} is not in memory")
        equal(
            mine == childs,
            writer_of(page) == "nobody",
            f"page {page} is one frame in both (written by {writer_of(page)})",
        )
    test("parent")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    test("parent")


if __name__ == "__main__":
    run(main)
