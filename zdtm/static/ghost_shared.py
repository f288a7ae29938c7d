"""One unlinked file that parent and child hold by descriptions of their own, and by one that they share.

states: deleted-files-and-remaps/ghost-shared-by-relatives
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run


def main() -> None:
    common = os.open("file", os.O_RDWR | os.O_CREAT)
    os.write(common, b"0123456789")
    gate = Gate()

    def body() -> None:
        own = os.open("file", os.O_RDONLY)
        os.lseek(own, 2, os.SEEK_SET)
        gate.wait()
        check(os.path.sameopenfile(own, common), "the child's two descriptors are of two files")
        equal(os.read(own, 64), b"23Parent+", "contents by the child's own description")
        equal(os.lseek(common, 0, os.SEEK_CUR), 11, "offset of the shared description")
        os.write(common, b"child")

    pid = child(body)
    gate.expect(1)
    mine = os.open("file", os.O_WRONLY)
    os.lseek(mine, 4, os.SEEK_SET)
    os.unlink("file")
    ready()
    equal(os.listdir(), [], "names in the directory")
    check(os.path.sameopenfile(mine, common), "the parent's two descriptors are of two files")
    os.write(mine, b"Parent")
    equal(os.lseek(common, 0, os.SEEK_CUR), 10, "offset of the shared description")
    os.write(common, b"+")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal(os.pread(common, 64, 0), b"0123Parent+child", "contents after both have written")


if __name__ == "__main__":
    run(main)
