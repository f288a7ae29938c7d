"""Current directories: a new one with an odd name, and another one for the child.

states: files/fs-cwd
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run, workdir

NAME = "new line\n, 'quotes\" and \\040"


def enter(path: str) -> None:
    os.mkdir(path)
    os.chdir(path)


def main() -> None:
    gate = Gate()

    def body() -> None:
        enter("of the child")
        gate.wait()
        equal(os.getcwd(), os.path.join(workdir(), "of the child"), "the child's current directory")

    pid = child(body)
    gate.expect(1)
    enter(NAME)
    inode = os.stat(".").st_ino
    ready()
    equal(os.getcwd(), os.path.join(workdir(), NAME), "current directory")
    equal(os.stat(".").st_ino, inode, "inode of the current directory")
    os.mkdir("below")
    equal(os.listdir(os.path.join(workdir(), NAME)), ["below"], "what was made by a relative name")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
