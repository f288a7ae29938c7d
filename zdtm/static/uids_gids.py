"""A task whose real, effective, saved and file system ids all differ.

states: credentials-seccomp-and-lsm/uids-gids
flavours: h
needs: root
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.libc import call
from zdtm.lib.proc import status
from zdtm.lib.program import child, equal, ready, reap, run

ONLY_ASK = -1
"""setfsuid(-1) changes nothing and gives the present id."""


def main() -> None:
    gate = Gate()

    def body() -> None:
        os.setgroups([])
        os.setresgid(5, 6, 7)
        call("setfsgid", 8)
        os.setresuid(1, 2, 3)
        # Effective id 2 is no root, but a file system id may become any of the other three.
        call("setfsuid", 3)
        gate.wait()
        equal((os.getresuid(), os.getresgid()), ((1, 2, 3), (5, 6, 7)), "uids and gids")
        equal((call("setfsuid", ONLY_ASK), call("setfsgid", ONLY_ASK)), (3, 8), "fsuid and fsgid")

    pid = child(body)
    gate.expect(1)
    before = {name: status(pid)[name].split() for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm")}
    equal((before["Uid"], before["Gid"]), (["1", "2", "3", "3"], ["5", "6", "7", "8"]), "ids before")
    ready()
    equal({name: status(pid)[name].split() for name in before}, before, "ids and capabilities")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
