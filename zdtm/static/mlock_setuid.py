"""Memory that was locked by root; now the task is an ordinary user, whose limit would not allow it to lock a byte.

states: memory/mlocked-vma-vs-dropped-creds
flavours: h
needs: root
"""

import os
import resource

from zdtm.lib.gate import Gate
from zdtm.lib.memory import FAR, PAGE, mlock, mmap, pattern, peek, poke, vma_at
from zdtm.lib.proc import status
from zdtm.lib.program import check, child, equal, ready, reap, run

PAGES = 16
USER = 18943


def main() -> None:
    gate = Gate()

    def body() -> None:
        area = mmap(PAGES * PAGE, address=FAR)
        for page in range(PAGES):
            poke(area + page * PAGE, pattern(page))
        mlock(area + PAGE, (PAGES - 2) * PAGE)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        os.setresuid(USER, USER, USER)
        gate.wait()
        equal(os.getresuid(), (USER, USER, USER), "user ids")
        for page in range(PAGES):
            locked = 0 < page < PAGES - 1
            equal("lo" in vma_at(area + page * PAGE).flags, locked, f"page {page} is locked")
            equal(peek(area + page * PAGE, PAGE), pattern(page), f"contents of page {page}")
        equal(int(status("self")["VmLck"].split()[0]) * 1024, (PAGES - 2) * PAGE, "locked memory in bytes")
        try:
            mlock(area, PAGE)
        except OSError:
            return
        check(False, "the user could lock memory beyond the limit")

    pid = child(body)
    gate.expect(1)
    ready()
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
