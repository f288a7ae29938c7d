"""Open file descriptions that are shared by duplicates and by a child, and one that only looks the same.

states: files/struct-file-sharing
flavours: h
"""

import os
from fcntl import F_DUPFD, fcntl

from zdtm.lib.gate import Gate
from zdtm.lib.proc import same_description
from zdtm.lib.program import check, child, equal, ready, reap, run

TEXT = b"0123456789abcdefghij"


def position(fd: int) -> int:
    return os.lseek(fd, 0, os.SEEK_CUR)


def main() -> None:
    with open("file", "wb") as file:
        file.write(TEXT)
    original, apart = os.open("file", os.O_RDONLY), os.open("file", os.O_RDONLY)
    duplicate, inheritable = os.dup(original), fcntl(original, F_DUPFD, 40)
    os.lseek(original, 4, os.SEEK_SET)
    os.lseek(apart, 4, os.SEEK_SET)
    gate = Gate()

    def body() -> None:
        # The child's numbers differ from the parent's, and one of its descriptions is its own.
        moved = fcntl(original, F_DUPFD, 60)
        os.close(original)
        own = os.open("file", os.O_RDONLY)
        gate.wait()
        check(same_description(moved, duplicate), "the child's duplicates have come apart")
        check(not same_description(moved, apart), "the child's two inherited descriptions have become one")
        equal(position(moved), 6, "offset that the parent has moved")
        equal(position(apart), 4, "offset of the description that nobody has moved")
        equal(os.read(own, 2), TEXT[:2], "start of the file by the child's own description")
        os.lseek(moved, 10, os.SEEK_SET)

    pid = child(body)
    gate.expect(1)
    ready()
    check(same_description(original, duplicate), "the duplicate has come apart")
    check(same_description(original, inheritable), "the duplicate without close-on-exec has come apart")
    check(not same_description(original, apart), "a second description has become the first")
    equal([os.get_inheritable(fd) for fd in (original, duplicate, inheritable)], [False, False, True], "inheritable")
    equal(os.read(duplicate, 2), TEXT[4:6], "contents by the duplicate")
    equal([position(fd) for fd in (original, inheritable, apart)], [6, 6, 4], "offsets after a read by the duplicate")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal([position(fd) for fd in (original, apart)], [10, 4], "offsets after the child has moved one")


if __name__ == "__main__":
    run(main)
