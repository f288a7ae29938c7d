"""Open file description locks: one for writing, overlapping ones for reading by four descriptions, and one on a
description that a child has inherited.

states: file-locks-and-leases/ofd-locks
flavours: h
modes: not lazy-remote: the tree that stands has the lock
options: --file-locks
needs: feature fdinfo_lock
"""

import fcntl
import os
import struct

from zdtm.lib.gate import Gate
from zdtm.lib.proc import locks
from zdtm.lib.program import check, child, equal, ready, reap, run

FLOCK = struct.Struct("hhqqi4x")
"""type, whence, start, length, pid"""


def lock(fd: int, kind: int, start: int, length: int) -> bool:
    """False when another description is in the way."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except BlockingIOError:
        return False
    return True


def opened(name: str) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT)


def main() -> None:
    writer, other = opened("written"), opened("written")
    readers = [opened("read") for _ in range(4)]
    inherited = opened("inherited")
    check(lock(writer, fcntl.F_WRLCK, 0, 0), "lock for writing")
    for number, fd in enumerate(readers):
        check(lock(fd, fcntl.F_RDLCK, 10 * number, 15), f"lock {number} for reading")
    check(lock(inherited, fcntl.F_WRLCK, 5, 1), "lock to be inherited")
    gate = Gate()

    def body() -> None:
        gate.wait()
        check(lock(inherited, fcntl.F_WRLCK, 5, 2), "the child cannot change the lock it has inherited")

    pid = child(body)
    gate.expect(1)
    fds = (writer, other, *readers, inherited)
    before = {fd: locks(fd) for fd in fds}
    ready()
    for fd in fds:
        equal(locks(fd), before[fd], f"locks of descriptor {fd}")
    check(not lock(other, fcntl.F_RDLCK, 100, 1), "a file locked for writing could be locked by another description")
    check(lock(writer, fcntl.F_WRLCK, 100, 1), "the owner of a lock could not take it again")
    # Reader 1 has the bytes 10 to 24. Readers 0 and 2 have the outer ones of them too.
    check(not lock(readers[1], fcntl.F_WRLCK, 14, 1), "a byte locked by reader 0 could be locked for writing")
    check(not lock(readers[1], fcntl.F_WRLCK, 20, 1), "a byte locked by reader 2 could be locked for writing")
    check(lock(readers[1], fcntl.F_WRLCK, 15, 5), "bytes locked by one reader only could not be locked for writing")
    newcomer = opened("inherited")
    check(not lock(newcomer, fcntl.F_RDLCK, 5, 1), "the inherited lock is gone")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    check(not lock(newcomer, fcntl.F_RDLCK, 6, 1), "what the child locked by the shared description is not locked")


if __name__ == "__main__":
    run(main)
