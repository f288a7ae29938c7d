"""A session and two process groups whose leaders are dead and reaped, while members live on.

states: process-tree/sid-pgid-graph, process-tree/sessions-and-groups
flavours: h
"""

import os

from zdtm.lib.family import Child, Dying, grow, release
from zdtm.lib.gate import Gate
from zdtm.lib.proc import family
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    gate = Gate()
    members = grow(
        gate,
        [
            # A session with one member in the leader's own group, and two in a group that has lost its leader, too.
            Dying(["session", Child([]), Dying(["group", Child([]), Child([])])]),
            # A group like that in the root's session.
            Dying(["group", Child([])]),
        ],
    )
    before = {pid: family(pid) for pid in members}
    leaders = {number for entry in before.values() for number in (entry.pgid, entry.sid)} - {os.getpid()}
    equal(len(leaders), 3, "number of leaders")
    ready()
    equal({pid: family(pid) for pid in members}, before, "parents, groups and sessions of the members")
    for leader in leaders:
        check(not os.path.exists(f"/proc/{leader}"), f"the dead leader {leader} is there again")
    release(gate)


if __name__ == "__main__":
    run(main)
