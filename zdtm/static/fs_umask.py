"""Umasks: an unusual one, and none at all in a child.

states: files/umask
flavours: h
"""

import os
import stat

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run


def mode_of_new(name: str) -> int:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return stat.S_IMODE(os.stat(name).st_mode)


def main() -> None:
    gate = Gate()

    def body() -> None:
        os.umask(0)
        gate.wait()
        equal(mode_of_new("open to all"), 0o666, "mode of a file that the child made")
        equal(os.umask(0), 0, "umask of the child")

    pid = child(body)
    gate.expect(1)
    os.umask(0o345)
    ready()
    equal(mode_of_new("strange"), 0o666 & ~0o345, "mode of a file made afterwards")
    equal(os.umask(0), 0o345, "umask")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
