"""One memfd, several descriptions: the parent's for reading and writing, a read-only one of the child's, opened
through /proc, and a duplicate of the parent's that the child has inherited.

states: memory/memfd-several-descriptions
flavours: h
"""

import errno
import fcntl
import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run


def position(fd: int) -> int:
    return os.lseek(fd, 0, os.SEEK_CUR)


def main() -> None:
    memfd = os.memfd_create("two")
    os.write(memfd, b"before it was")
    os.lseek(memfd, 7, os.SEEK_SET)
    gate = Gate()

    def body() -> None:
        own = os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY)
        os.lseek(own, 3, os.SEEK_SET)
        gate.wait()
        equal(fcntl.fcntl(own, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY, "access of the child's own description")
        equal(position(own), 3, "offset of the child's own description")
        equal(position(memfd), 9, "offset of the inherited description, which the parent has moved")
        check(os.path.sameopenfile(memfd, own), "the child's descriptions are of different memfds")
        equal(os.read(own, 64), b"ore ittook", "contents as the child sees them")
        try:
            os.write(own, b"!")
        except OSError as refusal:
            equal(refusal.errno, errno.EBADF, "errno of a write to the read-only description")
        else:
            check(False, "the read-only description could be written to")
        os.lseek(memfd, 1, os.SEEK_SET)

    pid = child(body)
    gate.expect(1)
    ready()
    equal(position(memfd), 7, "offset of the parent's description")
    os.ftruncate(memfd, 9)
    equal(os.read(memfd, 64), b"it", "contents from the offset on")
    os.pwrite(memfd, b"took", 9)
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal(position(memfd), 1, "offset of the shared description, which the child has moved")


if __name__ == "__main__":
    run(main)
