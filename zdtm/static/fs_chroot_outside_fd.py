"""A task in a chroot() jail that still holds a file and a directory from outside.

states: files/fs-fd-outside-root
flavours: h
needs: root
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run


def main() -> None:
    for name in ("jail", "outside"):
        os.mkdir(name)
    for name in ("outside/open", "outside/closed"):
        with open(name, "w") as file:
            file.write(f"text of {name}")
    gate = Gate()

    def body() -> None:
        file, directory = os.open("outside/open", os.O_RDONLY), os.open("outside", os.O_RDONLY)
        os.read(file, 8)
        os.chroot("jail")
        os.chdir("/")
        gate.wait()
        equal(os.read(file, 64), b"outside/open", "contents of the open file from its offset on")
        equal(sorted(os.listdir(directory)), ["closed", "open"], "names in the directory outside")
        by_directory = os.open("closed", os.O_RDONLY, dir_fd=directory)
        equal(os.read(by_directory, 64), b"text of outside/closed", "a file opened by way of the directory")
        equal(os.listdir("/"), [], "names in the jail")
        check(not os.path.exists("/outside"), "the jail has a name for the directory outside")

    pid = child(body)
    gate.expect(1)
    ready()
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal(os.listdir("jail"), [], "names in the jail")


if __name__ == "__main__":
    run(main)
