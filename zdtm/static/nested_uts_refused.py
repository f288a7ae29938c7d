"""A child in a UTS namespace that the root of the tree is not in.

flavours: h
needs: root
expect: refuse (?i)uts
"""

import os
import socket

from zdtm.lib.gate import Gate
from zdtm.lib.libc import CLONE_NEWUTS, call
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()

    def elsewhere() -> None:
        call("unshare", CLONE_NEWUTS)
        socket.sethostname("elsewhere")
        gate.wait()
        equal(os.uname().nodename, "elsewhere", "host name of the child")

    pid = child(elsewhere)
    gate.expect(1)
    name = os.uname().nodename
    ready()
    equal(os.uname().nodename, name, "host name of the root")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
