"""Locks by flock() on descriptions that parent and child share, or that only the child has left; and a description of
the parent's that must wait for the child's lock.

states: file-locks-and-leases/flock-shared-by-fork, file-locks-and-leases/flock-contention
flavours: h
modes: not lazy-remote: the tree that stands has the lock
options: --file-locks
needs: feature fdinfo_lock
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run


def is_free(fd: int) -> bool:
    """Whether this description has or can have the lock. It has it afterwards."""
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free_by_name(name: str) -> bool:
    """Whether a new description can have the lock. It is given back."""
    with open(name) as file:
        return is_free(file.fileno())


def main() -> None:
    both, childs = (os.open(name, os.O_RDWR | os.O_CREAT) for name in ("both", "child's"))
    contender = os.open("child's", os.O_RDWR)
    for fd in (both, childs):
        flock(fd, LOCK_EX)
    gate = Gate()

    def body() -> None:
        gate.wait()
        check(is_free(childs), "the child cannot take its own lock again")
        check(not is_free_by_name("child's"), "the lock that only the child has is gone")
        flock(both, LOCK_UN)

    pid = child(body)
    gate.expect(1)
    os.close(childs)
    ready()
    check(not is_free_by_name("both"), "the shared lock is gone")
    check(not is_free(contender), "the lock that only the child has is gone")
    check(is_free(both), "the parent cannot take the shared lock again")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    check(is_free_by_name("both"), "the child's unlocking of the shared description has not reached the parent")
    check(is_free(contender), "the child's lock has outlived the child")


if __name__ == "__main__":
    run(main)
