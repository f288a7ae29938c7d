"""A child subreaper: the attribute, which no child inherits, and the adoption of who is orphaned later.

states: process-tree/pr-set-child-subreaper
flavours: h
kernel: PR_SET_CHILD_SUBREAPER
"""

import os
from ctypes import byref, c_int

from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER, call, prctl
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run


def is_subreaper() -> bool:
    value = c_int()
    call("prctl", PR_GET_CHILD_SUBREAPER, byref(value), 0, 0, 0)
    return bool(value.value)


def main() -> None:
    gate, second_gate = Gate(), Gate()
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    def reaper() -> None:
        """Its first grandchild is orphaned too early for it, so the root has that one."""
        reap(child(early_mother))
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        parent = child(mother)
        gate.wait()
        equal(is_subreaper(), True, "the reaper is a subreaper")
        reap(parent)
        (orphan,) = second_gate.expect(1)
        equal(stat(orphan).ppid, os.getpid(), "adopter of the one orphaned after the restore")
        second_gate.open()
        equal(reap(orphan), 0, "status of the orphan")

    def early_mother() -> None:
        child(gate.wait)

    def mother() -> None:
        """Dies after the restore and leaves an orphan."""
        equal(is_subreaper(), False, "the attribute is inherited")
        child(second_gate.wait)
        gate.wait()

    pid = child(reaper)
    pids = gate.expect(3)
    (early,) = [each for each in pids if each != pid and stat(each).ppid == os.getpid()]
    ready()
    equal(is_subreaper(), True, "the root is a subreaper")
    equal(stat(early).ppid, os.getpid(), "adopter of the one that was orphaned early")
    gate.open()
    equal([reap(each) for each in (pid, early)], [0, 0], "statuses of the reaper and the early orphan")


if __name__ == "__main__":
    run(main)
