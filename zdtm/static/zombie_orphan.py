"""Zombies whose parents are dead, adopted by a reaper that does not reap: one in the session of a leader that is
reaped already.

states: process-tree/orphan-zombie
flavours: h
"""

import os

from zdtm.lib.libc import PR_SET_CHILD_SUBREAPER, prctl
from zdtm.lib.proc import children, stat
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    def session_leader() -> None:
        os.setsid()
        bear_zombie(5)

    def bear_zombie(code: int) -> None:
        pid = child(lambda: os._exit(code))
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    leader, stranger = child(session_leader), child(lambda: bear_zombie(6))
    for pid in (leader, stranger):
        equal(reap(pid), 0, "status of a zombie's parent")
    before = {pid: stat(pid) for pid in children(os.getpid())}
    equal([(entry.state, entry.ppid) for entry in before.values()], [("Z", os.getpid())] * 2, "the adopted zombies")
    equal({entry.sid for entry in before.values()}, {leader, os.getpid()}, "sessions of the zombies")
    ready()
    equal({pid: stat(pid) for pid in before}, before, "the zombies and their families")
    for pid, entry in before.items():
        code = 5 if entry.sid == leader else 6
        equal(os.waitpid(pid, 0), (pid, code << 8), "pid and wait status of an adopted zombie")


if __name__ == "__main__":
    run(main)
