"""A task that has no descriptor at all.

states: files/empty-descriptor-table
flavours: h
"""

import os

from zdtm.lib.proc import open_fds
from zdtm.lib.program import child, equal, finish, ready, run, wait_term, wait_until


def main() -> None:
    def body() -> None:
        os.closerange(0, os.sysconf("SC_OPEN_MAX"))
        wait_term()
        equal(open_fds(), [], "descriptors of the task")
        equal(os.open("/", os.O_RDONLY), 0, "number of the first descriptor")

    pid = child(body, block_term=True)
    wait_until(lambda: not os.listdir(f"/proc/{pid}/fd"), "the child has closed everything")
    ready()
    equal(os.listdir(f"/proc/{pid}/fd"), [], "descriptors of the task as its parent sees them")
    finish(pid)


if __name__ == "__main__":
    run(main)
