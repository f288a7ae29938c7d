"""Sessions and process groups whose leaders live: a child in a session of its own, one that leads a group in the
session of its parent, one that its parent has put into that group, and one that just inherits.

states: process-tree/sid-pgid-simple, process-tree/sessions-and-groups
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()
    root = os.getpid()

    def new_session() -> None:
        os.setsid()
        inside = child(new_group)
        gate.wait()
        reap(inside)

    def new_group() -> None:
        os.setpgid(0, 0)
        gate.wait()

    session = child(new_session)
    inside = next(pid for pid in gate.expect(2) if pid != session)
    group = child(new_group)
    gate.expect(1)
    joined, plain = child(gate.wait), child(gate.wait)
    gate.expect(2)
    os.setpgid(joined, group)
    # pid -> its process group and session
    expected = {
        root: (root, root),
        session: (session, session),
        inside: (inside, session),
        group: (group, root),
        joined: (group, root),
        plain: (root, root),
    }
    ready()
    equal({pid: (os.getpgid(pid), os.getsid(pid)) for pid in expected}, expected, "group and session of each task")
    equal([stat(pid).ppid for pid in (session, inside, group, joined, plain)], [root, session, *[root] * 3], "parents")
    gate.open()
    for pid in (session, group, joined, plain):
        equal(reap(pid), 0, "status of a child")


if __name__ == "__main__":
    run(main)
