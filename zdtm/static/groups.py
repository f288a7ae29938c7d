"""Supplementary groups: a long list, none, and one that has an id above 16 bits.

states: credentials-seccomp-and-lsm/supplementary-groups
flavours: h
needs: root
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

LISTS: tuple[list[int], ...] = ([*os.getgroups(), 58467], [], [*range(1000, 3000, 7)], [4000000000, 3, 70000])


def main() -> None:
    gate = Gate()

    def body(groups: list[int]) -> None:
        os.setgroups(groups)
        before = os.getgroups()
        gate.wait()
        equal(os.getgroups(), before, "supplementary groups")
        equal(sorted(before), sorted(groups), "the groups that were set")

    pids = [child(lambda groups=groups: body(groups)) for groups in LISTS]  # type: ignore[misc]
    gate.expect(len(pids))
    ready()
    gate.open()
    equal([reap(pid) for pid in pids], [0] * len(pids), "statuses of the children")


if __name__ == "__main__":
    run(main)
