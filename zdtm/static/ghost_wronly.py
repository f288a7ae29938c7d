"""Unlinked files that are open for writing only: one at an offset, one for appending.

states: deleted-files-and-remaps/unlinked-write-only-file
flavours: h
"""

import fcntl
import os

from zdtm.lib.memory import pattern
from zdtm.lib.program import equal, ready, run

CONTENTS = pattern(3)


def contents(fd: int) -> bytes:
    """Read by a new description, since this one cannot read."""
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        return file.read()


def main() -> None:
    flags = {"offset": os.O_WRONLY, "append": os.O_WRONLY | os.O_APPEND}
    fds = {name: os.open(name, flag | os.O_CREAT) for name, flag in flags.items()}
    for name, fd in fds.items():
        os.write(fd, CONTENTS)
        os.lseek(fd, 8, os.SEEK_SET)
        os.unlink(name)
    ready()
    equal(os.listdir(), [], "names in the directory")
    for name, fd in fds.items():
        equal(fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND), flags[name], f"flags ({name})")
        equal(os.lseek(fd, 0, os.SEEK_CUR), 8, f"offset ({name})")
        equal(contents(fd), CONTENTS, f"contents ({name})")
        os.write(fd, b"written")
    equal(contents(fds["offset"]), CONTENTS[:8] + b"written" + CONTENTS[15:], "contents after a write at the offset")
    equal(contents(fds["append"]), CONTENTS + b"written", "contents after an append")


if __name__ == "__main__":
    run(main)
