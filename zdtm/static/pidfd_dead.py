"""Pidfds of tasks that are dead and reaped: two of each task, which are two descriptors of one inode.

states: pidfds/pidfds-of-dead-processes
flavours: h
kernel: file system of pidfds
needs: feature pidfs
"""

import os
import select
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.proc import fdinfo, same_description
from zdtm.lib.program import check, child, equal, ready, reap, run

NOBODY = "-1"


def dead_pidfds() -> tuple[int, int]:
    """Two pidfds, opened one by one while the task lived."""
    gate = Gate()
    pid = child(gate.wait)
    fds = os.pidfd_open(pid), os.pidfd_open(pid, os.O_NONBLOCK)
    gate.open()
    reap(pid)
    return fds


def main() -> None:
    pairs = [dead_pidfds() for _ in range(2)]
    ready()
    inodes = [[os.fstat(fd).st_ino for fd in pair] for pair in pairs]
    for pair, (one, other) in zip(pairs, inodes, strict=True):
        equal(one, other, "inodes of two pidfds of one task")
        check(not same_description(*pair), "the two pidfds of one task are one")
    check(inodes[0] != inodes[1], "two tasks have one inode")
    for fd in (*pairs[0], *pairs[1]):
        equal(fdinfo(fd)["Pid"], NOBODY, "pid that the pidfd stands for")
        equal(select.select([fd], [], [], 0)[0], [fd], "readable pidfds")
        try:
            signal.pidfd_send_signal(fd, signal.SIGUSR1)
        except ProcessLookupError:
            continue
        check(False, "a dead task can be sent a signal")
    equal([os.get_blocking(fd) for fd in pairs[0]], [True, False], "which of them block")


if __name__ == "__main__":
    run(main)
