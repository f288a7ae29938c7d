"""A child in a chroot() jail, with a file of the jail open and its current directory below the jail's root.

states: files/fs-root
flavours: h
needs: root
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run, workdir


def main() -> None:
    os.makedirs("jail/below")
    with open("jail/file", "w") as file:
        file.write("in the jail")
    with open("file", "w") as file:
        file.write("outside")
    gate = Gate()

    def body() -> None:
        os.chroot("jail")
        os.chdir("/below")
        fd = os.open("/file", os.O_RDWR | os.O_APPEND)
        gate.wait()
        equal(os.getcwd(), "/below", "current directory in the jail")
        check(os.path.samestat(os.stat("/.."), os.stat("/")), "the way up leads out of the jail")
        check(os.path.samestat(os.stat(".."), os.stat("/")), "the way up does not lead to the root of the jail")
        equal(sorted(os.listdir("/")), ["below", "file"], "names in the jail")
        check(os.path.samestat(os.stat("/file"), os.fstat(fd)), "the open file is another one than by name")
        os.write(fd, b", written")
        with open("/file") as again:
            equal(again.read(), "in the jail, written", "contents of the file in the jail")

    pid = child(body)
    gate.expect(1)
    jail = os.stat("jail")
    ready()
    equal(os.readlink(f"/proc/{pid}/root"), os.path.join(workdir(), "jail"), "root of the child")
    check(os.path.samestat(os.stat(f"/proc/{pid}/root"), jail), "the root of the child is another directory")
    equal(os.readlink("/proc/self/root"), "/", "root of the parent")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
