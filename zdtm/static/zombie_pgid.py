"""A zombie born with CLONE_PARENT: a child of the root in the process group of its brother.

states: process-tree/zombie-pgid
flavours: h
needs: root
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.libc import fork_sibling
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()

    def brother() -> None:
        os.setpgid(0, 0)
        if fork_sibling() == 0:
            os._exit(7)
        gate.wait()

    leader = child(brother)
    gate.expect(1)
    info = os.waitid(os.P_PGID, leader, os.WEXITED | os.WNOWAIT)
    assert info is not None
    zombie = info.si_pid
    before = stat(zombie)
    equal((before.state, before.ppid, before.pgid), ("Z", os.getpid(), leader), "state, parent and group")
    ready()
    equal(stat(zombie), before, "name, state, parent, group and session of the zombie")
    equal(os.waitpid(-leader, 0), (zombie, 7 << 8), "the dead member of the group")
    gate.open()
    equal(reap(leader), 0, "status of the leader")


if __name__ == "__main__":
    run(main)
