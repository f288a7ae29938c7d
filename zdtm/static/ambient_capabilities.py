"""Ambient capabilities: half of what is permitted is raised, the other half is not; two tasks have opposite halves.

states: credentials-seccomp-and-lsm/ambient-capabilities
flavours: h
needs: root
"""

from zdtm.lib.capabilities import get_sets, set_sets
from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_RAISE, prctl
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()

    def body(remainder: int) -> None:
        permitted = [cap for cap in range(64) if get_sets().permitted >> cap & 1]
        # Only what is inheritable, too, can be raised.
        set_sets(inheritable=get_sets().permitted)
        for cap in permitted:
            if cap % 2 == remainder:
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap)
        before = get_sets()
        gate.wait()
        equal(get_sets(), before, "capability sets")
        for cap in permitted:
            is_set = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap)
            equal(is_set, int(cap % 2 == remainder), f"capability {cap} is ambient")

    pids = [child(lambda: body(0)), child(lambda: body(1))]
    gate.expect(len(pids))
    ready()
    gate.open()
    equal([reap(pid) for pid in pids], [0, 0], "statuses of the children")


if __name__ == "__main__":
    run(main)
