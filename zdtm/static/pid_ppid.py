"""A task, its child and its grandchild keep their pids, and each its parent.

states: process-tree/pid-ppid
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()
    root = os.getpid()

    def check_ids(pid: int, ppid: int) -> None:
        equal((os.getpid(), os.getppid()), (pid, ppid), "pid and ppid")
        equal(os.stat("/proc/self").st_ino, os.stat(f"/proc/{pid}").st_ino, "task behind /proc/self")

    def generation(left: int) -> None:
        ids = os.getpid(), os.getppid()
        younger = child(lambda: generation(left - 1)) if left else 0
        gate.wait()
        check_ids(*ids)
        if younger:
            equal(reap(younger), 0, "status of the grandchild")

    above = os.getppid()
    pid = child(lambda: generation(1))
    grandchild = next(each for each in gate.expect(2) if each != pid)
    ready()
    check_ids(root, above)
    equal((stat(pid).ppid, stat(grandchild).ppid), (root, pid), "parents of child and grandchild")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
