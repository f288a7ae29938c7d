"""The promise never to gain privileges, given by one task and not by its parent.

states: credentials-seccomp-and-lsm/no-new-privs
flavours: h
"""

from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_GET_NO_NEW_PRIVS, PR_SET_NO_NEW_PRIVS, prctl
from zdtm.lib.proc import status
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()

    def body() -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        gate.wait()
        equal(prctl(PR_GET_NO_NEW_PRIVS), 1, "no_new_privs of the child")

    pid = child(body)
    gate.expect(1)
    equal(prctl(PR_GET_NO_NEW_PRIVS), 0, "no_new_privs of the parent, before")
    ready()
    equal(prctl(PR_GET_NO_NEW_PRIVS), 0, "no_new_privs of the parent")
    equal(status(pid)["NoNewPrivs"], "1", "no_new_privs of the child, from outside")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
