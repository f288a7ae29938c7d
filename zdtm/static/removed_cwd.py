"""Current directories that have been removed: one that is open as well, and a nested one in the child.

states: deleted-files-and-remaps/removed-cwd, deleted-files-and-remaps/removed-cwd-fd
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run, workdir


def enter(path: str) -> None:
    os.makedirs(path)
    os.chdir(path)


def is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def test() -> None:
    check(is_gone(), "the current directory has a name")
    equal(os.stat(".").st_nlink, 0, "number of names of the current directory")
    equal(os.listdir(), [], "names in the current directory")
    try:
        os.mkdir("below")
    except FileNotFoundError:
        return
    check(False, "something could be made in the removed directory")


def main() -> None:
    gate = Gate()

    def body() -> None:
        enter("outer/inner")
        for name in ("outer/inner", "outer"):
            os.rmdir(os.path.join(workdir(), name))
        gate.wait()
        test()

    pid = child(body)
    gate.expect(1)
    enter("directory")
    fd = os.open(".", os.O_RDONLY)
    os.rmdir(os.path.join(workdir(), "directory"))
    ready()
    test()
    check(os.path.samestat(os.fstat(fd), os.stat(".")), "the descriptor and the current directory have come apart")
    equal(os.readlink("/proc/self/cwd"), os.path.join(workdir(), "directory (deleted)"), "former name")
    equal(os.listdir(workdir()), [], "names in the directory above")
    os.chdir(workdir())
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
