"""Descriptors of the executable that the task runs: offsets stay where they are, though an engine reads the file.

states: files/offset-of-executable-fd
flavours: h
"""

import os

from zdtm.lib.program import equal, ready, run


def main() -> None:
    untouched, moved = os.open("/proc/self/exe", os.O_RDONLY), os.open("/proc/self/exe", os.O_RDONLY)
    start = os.read(moved, 64)
    link = os.readlink("/proc/self/exe")
    ready()
    equal(os.lseek(untouched, 0, os.SEEK_CUR), 0, "offset of the untouched descriptor")
    equal(os.lseek(moved, 0, os.SEEK_CUR), 64, "offset of the other descriptor")
    equal(os.read(untouched, 64), start, "start of the executable")
    equal(start[:4], b"\x7fELF", "magic number of the executable")
    for fd in (untouched, moved):
        equal(os.readlink(f"/proc/self/fd/{fd}"), link, f"file of descriptor {fd}")


if __name__ == "__main__":
    run(main)
