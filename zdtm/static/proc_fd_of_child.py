"""A parent holds files and a directory below /proc/PID of its child, and the child those of its parent.

states: files/procfs-descriptor-of-another-task
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run


def pid_in(fd: int) -> int:
    """The number with which a stat file begins."""
    return int(os.pread(fd, 4096, 0).split()[0])


def main() -> None:
    gate = Gate()
    parent = os.getpid()

    def body() -> None:
        stat = os.open(f"/proc/{parent}/stat", os.O_RDONLY)
        gate.wait()
        equal(pid_in(stat), parent, "pid in the parent's stat file")

    pid = child(body)
    gate.expect(1)
    stat, directory = (os.open(f"/proc/{pid}/{name}", os.O_RDONLY) for name in ("stat", "task"))
    thread = os.open(f"/proc/{pid}/task/{pid}/stat", os.O_RDONLY)
    ready()
    equal(pid_in(stat), pid, "pid in the child's stat file")
    equal(pid_in(thread), pid, "pid in the stat file of the child's thread")
    equal(os.listdir(directory), [str(pid)], "threads of the child")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    for fd in (stat, thread):
        try:
            pid_in(fd)
        except ProcessLookupError:
            continue
        raise AssertionError("the stat file of a dead task could be read")


if __name__ == "__main__":
    run(main)
