"""A task that could not do again what it has done: it has more descriptors, locked memory and written files than its
soft limits allow now.

states: misc/rlimits
flavours: h
"""

import os
import resource
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.memory import PAGE, mlock, mmap, pattern, peek, poke, vma_at
from zdtm.lib.program import check, child, equal, ready, reap, run

TIGHT = {
    resource.RLIMIT_NOFILE: 3,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_MEMLOCK: 0,
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_STACK: 0,
    resource.RLIMIT_SIGPENDING: 0,
    resource.RLIMIT_MSGQUEUE: 0,
}
"""Soft limits"""


def limits() -> dict[int, tuple[int, int]]:
    return {limit: resource.getrlimit(limit) for limit in TIGHT}


def main() -> None:
    area = mmap(4 * PAGE)
    poke(area, pattern(3, 4 * PAGE))
    gate = Gate()

    def body() -> None:
        mlock(area, 4 * PAGE)
        fds = [os.open("file", os.O_RDWR | os.O_CREAT) for _ in range(20)]
        for fd in fds:
            os.lseek(fd, 10 * fd, os.SEEK_SET)
        unlinked = os.open("unlinked", os.O_RDWR | os.O_CREAT)
        os.write(unlinked, b"in a ghost")
        os.unlink("unlinked")
        loose = limits()
        for limit, soft in TIGHT.items():
            resource.setrlimit(limit, (soft, loose[limit][1]))
        tight = limits()
        gate.wait()
        found = limits()
        # The child's report is a file as well, and needs descriptors.
        for limit, both in loose.items():
            resource.setrlimit(limit, both)
        equal(found, tight, "limits")
        check(signal.SIGXFSZ not in signal.sigpending(), "the task was told that a file has become too large")
        equal([os.lseek(fd, 0, os.SEEK_CUR) for fd in fds], [10 * fd for fd in fds], "offsets of the descriptors")
        equal(os.pread(unlinked, 64, 0), b"in a ghost", "contents of the unlinked file")
        check("lo" in vma_at(area).flags, "the memory is not locked any more")
        equal(peek(area, 4 * PAGE), pattern(3, 4 * PAGE), "contents of the locked memory")

    pid = child(body)
    gate.expect(1)
    ready()
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
