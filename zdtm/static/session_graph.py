"""A tree in which sessions, process groups and parents have little to do with each other: siblings born with
CLONE_PARENT, tasks that left the session which their children are in, orphans with adopters at two levels, and
leaders that are dead.

states: process-tree/sid-pgid-graph, process-tree/sessions-and-groups, process-tree/random-crazy-session-trees
flavours: h
kernel: clone3, set_tid
"""

from zdtm.lib.family import Child, Dying, Recipe, Sibling, grow, release
from zdtm.lib.gate import Gate
from zdtm.lib.proc import family
from zdtm.lib.program import equal, ready, run

RECIPE: Recipe = [
    # Leaves the session that its first child stays in.
    Child([Child([]), "session", Child(["group", Child([])])]),
    # Belongs to the root, and to a session which the root is not in: that of the one who bore it.
    Child(["session", Sibling(["group", Child([])]), Sibling([]), Child([])]),
    # Adopts the grandchildren born after it became a reaper; the one before is the root's.
    Child(["session", Dying([Child([])]), "reaper", Dying([Child([]), Dying(["session", Child([])])])]),
    # Was a reaper for a while.
    Child(["reaper", Dying([Child([])]), "no reaper", Dying([Child(["session"])])]),
    # A session whose only member is the child of a stranger to it: its leader is dead, its parent has left.
    Dying(["session", Child([Child([]), "session"])]),
]


def main() -> None:
    gate = Gate()
    pids = grow(gate, RECIPE)
    before = {pid: family(pid) for pid in pids}
    ready()
    for pid, expected in before.items():
        equal(family(pid), expected, f"parent, group and session of {pid}")
    release(gate)


if __name__ == "__main__":
    run(main)
