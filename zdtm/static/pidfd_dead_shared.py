"""Two tasks hold a pidfd each of one task that is dead and reaped: the same inode in both.

states: pidfds/dead-pidfd-shared-by-two-tasks
flavours: h
needs: feature pidfs
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate, last_breath = Gate(), Gate()
    reader, writer = os.pipe()

    def holder() -> None:
        fd = os.pidfd_open(victim)
        gate.wait()
        equal(fdinfo(fd)["Pid"], "-1", "pid that the child's pidfd stands for")
        os.write(writer, b"%d" % os.fstat(fd).st_ino)

    victim = child(last_breath.wait)
    fd = os.pidfd_open(victim)
    pid = child(holder)
    gate.expect(1)
    last_breath.open()
    reap(victim)
    ready()
    equal(fdinfo(fd)["Pid"], "-1", "pid that the parent's pidfd stands for")
    gate.open()
    equal(int(os.read(reader, 64)), os.fstat(fd).st_ino, "inode of the child's pidfd")
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
