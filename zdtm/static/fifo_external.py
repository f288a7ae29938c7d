"""An open fifo in a file system that is mounted nowhere any more, which a process outside of the tree has open, too.

states: pipes-and-fifos/external-pipe-fifo
flavours: h
outside: Fifo
"""

import os
import re
from pathlib import Path

from zdtm.lib.libc import call
from zdtm.lib.outside import FIRST, Outside
from zdtm.lib.program import equal, ready, run

MNT_DETACH = 2


class Fifo(Outside):
    """Keeps the file system alive, and with it the fifo."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        place = os.fsencode(directory / "mounted")
        os.mkdir(place)
        call("mount", b"tmpfs", place, b"tmpfs", 0, None)
        os.mkfifo(place + b"/fifo")
        self.both = os.open(place + b"/fifo", os.O_RDWR | os.O_NONBLOCK)
        call("umount2", place, MNT_DETACH)

    def supply(self) -> list[int]:
        return [os.open(f"/proc/self/fd/{self.both}", mode) for mode in (os.O_RDONLY, os.O_WRONLY)]

    def key(self, fd: int) -> str:
        mnt_id = re.search(r"mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())
        assert mnt_id is not None
        return f"file[{int(mnt_id[1]):x}:{os.fstat(fd).st_ino:x}]"

    def external(self, fd: int) -> str:
        return self.key(fd)

    def check(self) -> None:
        equal(os.read(self.both, 64), b"for the outside", "what the program has left in the fifo")


def main() -> None:
    ready()
    os.write(FIRST + 1, b"round the corner")
    equal(os.read(FIRST, 64), b"round the corner", "what has come back")
    os.write(FIRST + 1, b"for the outside")


if __name__ == "__main__":
    run(main)
