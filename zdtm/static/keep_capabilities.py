"""A task that asked to keep its capabilities when its uid changes, has changed it, and asked again.

states: credentials-seccomp-and-lsm/capabilities
flavours: h
needs: root
"""

import os

from zdtm.lib.capabilities import get_sets, set_sets
from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, prctl
from zdtm.lib.program import child, equal, ready, reap, run

CAP_SETUID, CAP_CHOWN = 7, 0


def main() -> None:
    gate = Gate()

    def body() -> None:
        prctl(PR_SET_KEEPCAPS, 1)
        os.setresuid(0, 99, 99)
        kept = 1 << CAP_SETUID | 1 << CAP_CHOWN
        set_sets(effective=1 << CAP_SETUID, permitted=kept)
        prctl(PR_SET_KEEPCAPS, 1)
        before = get_sets()
        gate.wait()
        equal((os.getresuid(), get_sets()), ((0, 99, 99), before), "uids and capability sets")
        equal(prctl(PR_GET_KEEPCAPS), 1, "the wish to keep capabilities")
        os.setresuid(99, 99, 99)
        equal(get_sets().permitted, kept, "permitted capabilities when the last uid 0 is gone")

    pid = child(body)
    gate.expect(1)
    ready()
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
