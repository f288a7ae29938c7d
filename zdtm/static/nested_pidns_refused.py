"""A child that is the init of a pid namespace of its own, inside a tree that is not.

flavours: h
needs: root
expect: refuse (?i)pid namespace|pid ns|pidns
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.libc import CLONE_NEWPID, call
from zdtm.lib.proc import status
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()

    def init() -> None:
        gate.wait()
        equal(os.getpid(), 1, "pid of the init, as it sees itself")

    call("unshare", CLONE_NEWPID)
    pid = child(init)
    gate.expect(1)
    ids = status(pid)["NSpid"]
    ready()
    equal(status(pid)["NSpid"], ids, "pids of the init in all its namespaces")
    gate.open()
    equal(reap(pid), 0, "status of the init")


if __name__ == "__main__":
    run(main)
