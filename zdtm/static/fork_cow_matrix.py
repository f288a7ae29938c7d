"""Every order of reads and writes around a fork, in four kinds of private memory: who has which contents, and which
pages are one frame in both tasks.

states: memory/cow-matrix
flavours: h
kernel: PAGEMAP_SCAN or /proc/PID/pagemap
needs: root
modes: not lazy: a page that comes later comes to each task for itself
"""

import os
from dataclasses import dataclass
from itertools import product

from zdtm.lib.gate import Gate
from zdtm.lib.memory import ANON, FAR, FIXED_NOREPLACE, GROWSDOWN, PAGE, PRIVATE, RW, frame, mmap, pattern, peek, poke
from zdtm.lib.program import check, child, equal, ready, reap, run

DISTANCE = 4096 * PAGE
BEFORE, PARENT, CHILD = 1000, 2000, 3000
"""Who writes: somebody before the fork, or one of the tasks after it. Also the seeds of what they write."""


@dataclass(frozen=True)
class Case:
    """What happens to one page. Reads matter, because they bring in a zero page or a page of the file."""

    written_before: bool
    parent_reads: bool
    parent_writes: bool
    child_reads: bool
    child_writes: bool

    def reads(self, who: int) -> bool:
        return self.parent_reads if who == PARENT else self.child_reads

    def writes(self, who: int) -> bool:
        return self.parent_writes if who == PARENT else self.child_writes

    @property
    def common(self) -> bool:
        """Whether the tasks still share the frame that was written before the fork."""
        return self.written_before and not self.parent_writes and not self.child_writes


CASES = [Case(*bits) for bits in product((False, True), repeat=5)]
KINDS = ("anonymous", "grows down", "file", "apart")
"""The last one is mapped by each task for itself, at the same address: it must not become common."""


def area(kind: str) -> int:
    return FAR + (KINDS.index(kind) + 1) * DISTANCE


def map_area(kind: str, fd: int) -> None:
    flags = {"grows down": ANON | GROWSDOWN, "file": 0}.get(kind, ANON)
    mmap(len(CASES) * PAGE, RW, PRIVATE | FIXED_NOREPLACE | flags, fd if kind == "file" else -1, 0, area(kind))


def expected(kind: str, number: int, who: int) -> bytes:
    """Contents of a page in one of the tasks."""
    if CASES[number].writes(who):
        return pattern(who + number)
    if CASES[number].written_before and kind != "apart":
        return pattern(BEFORE + number)
    return pattern(number) if kind == "file" else bytes(PAGE)


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    for number in range(len(CASES)):
        os.write(fd, pattern(number))
    for kind in KINDS[:-1]:
        map_area(kind, fd)
        for number, case in enumerate(CASES):
            if case.written_before:
                poke(area(kind) + number * PAGE, pattern(BEFORE + number))
    gate = Gate()

    def touch(who: int) -> None:
        map_area("apart", -1)
        for kind, (number, case) in product(KINDS, enumerate(CASES)):
            page = area(kind) + number * PAGE
            if case.reads(who):
                peek(page, 1)
            if case.writes(who):
                poke(page, pattern(who + number))

    def test(who: int) -> None:
        for kind, (number, case) in product(KINDS, enumerate(CASES)):
            contents = peek(area(kind) + number * PAGE, PAGE)
            equal(contents, expected(kind, number, who), f"contents of {case} ({kind}, {who})")

    def body() -> None:
        touch(CHILD)
        gate.wait()
        test(CHILD)

    pid = child(body)
    touch(PARENT)
    gate.expect(1)
    ready()
    for kind, (number, case) in product(KINDS, enumerate(CASES)):
        page = area(kind) + number * PAGE
        mine, childs = frame(page), frame(page, pid)
        if case.common and kind != "apart":
            check(mine is not None and mine == childs, f"the page of {case} ({kind}) is not common to both tasks")
        elif case.parent_writes or case.child_writes:
            check(mine is None or mine != childs, f"the page of {case} ({kind}) is common to both tasks")
    test(PARENT)
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
