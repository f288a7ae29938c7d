"""Transparent huge pages are disabled for a whole process (PR_SET_THP_DISABLE); its child has them enabled again.

states: memory/pr-set-thp-disable
flavours: h
"""

import mmap as std

from zdtm.lib.gate import Gate
from zdtm.lib.libc import prctl
from zdtm.lib.memory import FAR, madvise, mmap, poke, vmas
from zdtm.lib.program import child, equal, ready, reap, run

PR_SET_THP_DISABLE, PR_GET_THP_DISABLE = 41, 42
LENGTH = 4 << 20
ADVICE: dict[int, set[str]] = {0: set(), std.MADV_HUGEPAGE: {"hg"}, std.MADV_NOHUGEPAGE: {"nh"}}


def advised() -> dict[int, set[str]]:
    """The areas that have something to say of huge pages, by their addresses."""
    return {vma.start: set(vma.flags) & {"hg", "nh"} for vma in vmas() if vma.flags & {"hg", "nh"}}


def main() -> None:
    prctl(PR_SET_THP_DISABLE, 1)
    areas = {}
    for number, (advice, flags) in enumerate(ADVICE.items()):
        area = mmap(LENGTH, address=FAR + 2 * number * LENGTH)
        if advice:
            madvise(area, LENGTH, advice)
            areas[area] = flags
        poke(area, b"here")
    gate = Gate()

    def body() -> None:
        prctl(PR_SET_THP_DISABLE, 0)
        gate.wait()
        equal(prctl(PR_GET_THP_DISABLE), 0, "whether huge pages are disabled in the child")

    pid = child(body)
    gate.expect(1)
    ready()
    equal(prctl(PR_GET_THP_DISABLE), 1, "whether huge pages are disabled")
    equal(advised(), areas, "areas with advice on huge pages")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
