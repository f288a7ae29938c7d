"""Areas with what madvise(), mlock() and the flags of mmap() leave on them, shown as VmFlags in smaps.

states: memory/vma-flags-madvise-bits
flavours: h
kernel: flags of mappings
"""

import mmap as std

from zdtm.lib.memory import (
    ANON,
    FAR,
    MADV_WIPEONFORK,
    NORESERVE,
    PAGE,
    PRIVATE,
    RW,
    SHARED,
    madvise,
    mlock,
    mmap,
    pattern,
    peek,
    poke,
    vma_at,
)
from zdtm.lib.program import check, equal, ready, run

LENGTH = 4 * PAGE

ADVICE: dict[str, tuple[list[int], set[str]]] = {
    "DONTFORK": ([std.MADV_DONTFORK], {"dc"}),
    "SEQUENTIAL": ([std.MADV_SEQUENTIAL], {"sr"}),
    "RANDOM": ([std.MADV_RANDOM], {"rr"}),
    "DONTDUMP": ([std.MADV_DONTDUMP], {"dd"}),
    "HUGEPAGE": ([std.MADV_HUGEPAGE], {"hg"}),
    "NOHUGEPAGE": ([std.MADV_NOHUGEPAGE], {"nh"}),
    "MERGEABLE": ([std.MADV_MERGEABLE], {"mg"}),
    "WIPEONFORK": ([MADV_WIPEONFORK], {"wf"}),
    "all that go together": (
        [std.MADV_RANDOM, std.MADV_DONTDUMP, std.MADV_NOHUGEPAGE, MADV_WIPEONFORK],
        {"rr", "dd", "nh", "wf"},
    ),
    "none": ([], set()),
}


def area(number: int, kind: int) -> int:
    """Its neighbours lie one length away, so that areas with the same flags do not become one."""
    address = mmap(LENGTH, RW, kind, address=FAR + 2 * number * LENGTH)
    poke(address, pattern(number, LENGTH))
    return address


def main() -> None:
    areas = {name: area(number, PRIVATE | ANON) for number, name in enumerate(ADVICE)}
    for name, (advices, expected) in ADVICE.items():
        for advice in advices:
            madvise(areas[name], LENGTH, advice)
        check(expected <= vma_at(areas[name]).flags, f"the kernel does not show {name}")
    areas["NORESERVE"] = area(len(areas), PRIVATE | ANON | NORESERVE)
    areas["shared, SEQUENTIAL"] = area(len(areas), SHARED | ANON)
    madvise(areas["shared, SEQUENTIAL"], LENGTH, std.MADV_SEQUENTIAL)
    areas["locked"] = area(len(areas), PRIVATE | ANON)
    mlock(areas["locked"], LENGTH)
    before = {name: vma_at(address).flags for name, address in areas.items()}
    ready()
    for number, (name, address) in enumerate(areas.items()):
        equal(vma_at(address).flags, before[name], f"flags of the area {name}")
        equal(vma_at(address)[:2], (address, address + LENGTH), f"borders of the area {name}")
        equal(peek(address, LENGTH), pattern(number, LENGTH), f"contents of the area {name}")


if __name__ == "__main__":
    run(main)
