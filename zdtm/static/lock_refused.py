"""A file lock, and an engine that was not told to care for locks.

states: file-locks-and-leases/locks-without-file-locks
flavours: h
expect: refuse (?i)lock
"""

import fcntl
import os

from zdtm.lib.program import check, child, equal, ready, reap, run


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    ready()

    def body() -> None:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        check(False, "the lock is gone")

    equal(reap(child(body)), 0, "status of a child that tried to take the lock")


if __name__ == "__main__":
    run(main)
