"""Locks by flock(): exclusive, shared by two descriptions, and taken by one of two descriptions only.

states: file-locks-and-leases/flock, file-locks-and-leases/engine-lock-probing
flavours: h
modes: not lazy-remote: the tree that stands has the lock
options: --file-locks
needs: feature fdinfo_lock
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock

from zdtm.lib.proc import locks
from zdtm.lib.program import check, equal, ready, run


def can_lock(fd: int, how: int) -> bool:
    try:
        flock(fd, how | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def opened(name: str) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT)


def main() -> None:
    exclusive, other = opened("exclusive"), opened("exclusive")
    shared = [opened("shared"), opened("shared")]
    lone, free = opened("lone"), opened("lone")
    flock(exclusive, LOCK_EX)
    flock(lone, LOCK_SH)
    for fd in shared:
        flock(fd, LOCK_SH)
    fds = (exclusive, other, *shared, lone, free)
    before = {fd: locks(fd) for fd in fds}
    equal([len(before[fd]) for fd in fds], [1, 0, 1, 1, 1, 0], "number of locks of each descriptor")
    ready()
    for fd in fds:
        equal(locks(fd), before[fd], f"locks of descriptor {fd}")
    check(not can_lock(other, LOCK_SH), "an exclusively locked file could be locked by another description")
    check(can_lock(exclusive, LOCK_EX), "the owner of the exclusive lock could not take it again")
    check(can_lock(free, LOCK_SH), "a second shared lock could not be taken")
    flock(free, LOCK_UN)
    check(can_lock(lone, LOCK_EX), "the shared lock of one description could not be made exclusive")
    check(not can_lock(shared[0], LOCK_EX), "one of two shared locks could be made exclusive")
    flock(shared[1], LOCK_UN)
    check(can_lock(shared[0], LOCK_EX), "the shared lock that is left could not be made exclusive")


if __name__ == "__main__":
    run(main)
