"""A zombie that nobody has reaped leads a session and a group which its orphaned children live in.

states: process-tree/zombie-session-leader
flavours: h
"""

import os

from zdtm.lib.family import grow, release
from zdtm.lib.gate import Gate
from zdtm.lib.proc import family, stat
from zdtm.lib.program import child, equal, ready, run


def main() -> None:
    gate = Gate()
    grow(gate, [])

    def leader() -> None:
        os.setsid()
        child(gate.wait)
        child(gate.wait)
        os._exit(9)

    zombie = child(leader)
    members = gate.expect(2)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    before = stat(zombie)
    for pid in (zombie, *members):
        equal(family(pid), (os.getpid(), zombie, zombie), "parent, group and session")
    ready()
    equal(stat(zombie), before, "name, state and family of the zombie leader")
    for pid in members:
        equal(family(pid), (os.getpid(), zombie, zombie), "parent, group and session of a member")
    equal(os.waitpid(zombie, 0), (zombie, 9 << 8), "pid and wait status of the zombie")
    equal([os.getsid(pid) for pid in members], [zombie] * 2, "session of the members when the leader is reaped")
    release(gate)


if __name__ == "__main__":
    run(main)
