"""Tasks start sessions and groups, have a child in them, and die before it, all the time; a reaper gets the orphans.

states: process-tree/forking-tree, process-tree/random-crazy-session-trees
flavours: h
oracle: ignore tree: its tasks come and go all the time
"""

import os

from zdtm.lib.libc import PR_SET_CHILD_SUBREAPER, prctl
from zdtm.lib.program import child, equal, go_on, run, running


def main() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    running()
    number = 0

    def leader() -> None:
        if number % 2:
            os.setsid()
        else:
            os.setpgid(0, 0)
        me = os.getpid()
        child(lambda: orphan(me))
        os._exit(number % 100)

    def orphan(leader: int) -> None:
        equal(os.getpgrp(), leader, "group of the orphan")
        equal(os.getsid(0) == leader, bool(number % 2), "whether the orphan is in the session of its group's leader")
        os._exit(number % 100 + 100)

    while go_on():
        number += 1
        pid = child(leader)
        statuses = {}
        # Both are ours in the end: the leader from the start, its child as an orphan.
        for _ in range(2):
            dead, status = os.wait()
            statuses[dead] = os.waitstatus_to_exitcode(status)
        equal(statuses.pop(pid), number % 100, "status of the leader")
        equal(list(statuses.values()), [number % 100 + 100], "status of the orphan")


if __name__ == "__main__":
    run(main)
