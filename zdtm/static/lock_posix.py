"""POSIX locks of parent and child: of whole files and of ranges, for reading and for writing.

states: file-locks-and-leases/posix-locks
flavours: h
modes: not lazy-remote: the tree that stands has the lock
kernel: locks in fdinfo
options: --file-locks
"""

import fcntl
import os
import struct

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

FLOCK = struct.Struct("hhqqi4x")
"""type, whence, start, length, pid"""

LOCKS = [(fcntl.F_WRLCK, 0, 10), (fcntl.F_RDLCK, 20, 5), (fcntl.F_RDLCK, 1 << 33, 0)]
"""type, start, length. Length 0 means to the end of the file, wherever that will be."""


def lock(fd: int, kind: int, start: int, length: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETLK, FLOCK.pack(kind, os.SEEK_SET, start, length, 0))


def conflict(fd: int, start: int, length: int) -> tuple[int, ...]:
    """What keeps the caller from locking this for writing: type, start, length, pid. Just F_UNLCK if nothing does."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, _, start, length, pid = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return (kind, start, length, pid) if kind != fcntl.F_UNLCK else (kind,)


def main() -> None:
    parent = os.getpid()
    ranges, whole = (os.open(name, os.O_RDWR | os.O_CREAT) for name in ("ranges", "whole"))
    for kind, start, length in LOCKS:
        lock(ranges, kind, start, length)
    gate = Gate()

    def body() -> None:
        lock(whole, fcntl.F_WRLCK, 0, 0)
        # Both may read this range; the child's lock is apart from the parent's.
        lock(ranges, fcntl.F_RDLCK, 22, 1)
        gate.wait()
        for kind, start, length in LOCKS:
            equal(conflict(ranges, start, 1), (kind, start, length, parent), f"lock of the parent at {start}")
        for start in (10, 19, 25, 1000):
            equal(conflict(ranges, start, 1), (fcntl.F_UNLCK,), f"lock of the parent at {start}")
        equal(conflict(whole, 0, 0), (fcntl.F_UNLCK,), "lock of somebody else on the child's file")

    pid = child(body)
    gate.expect(1)
    ready()
    equal(conflict(whole, 5, 1), (fcntl.F_WRLCK, 0, 0, pid), "lock of the child on the whole file")
    equal(conflict(ranges, 0, 0), (fcntl.F_RDLCK, 22, 1, pid), "lock of the child on a range")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal(conflict(whole, 5, 1), (fcntl.F_UNLCK,), "lock on the whole file after the child's death")


if __name__ == "__main__":
    run(main)
