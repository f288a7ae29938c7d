"""Descriptors of a shared anonymous object that is mapped no more: two descriptions, opened through
/proc/self/map_files, that differ in access, append mode, offset and close-on-exec.

states: memory/fd-of-anonymous-shmem
flavours: h
needs: root, feature map_files
"""

import fcntl
import os

from zdtm.lib.memory import ANON, PAGE, RW, SHARED, map_file, mmap, munmap, pattern, poke
from zdtm.lib.program import check, equal, ready, run

PAGES = 3
FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK


def describe(fd: int) -> dict[str, object]:
    return {
        "flags": fcntl.fcntl(fd, fcntl.F_GETFL) & FLAGS,
        "close-on-exec": not os.get_inheritable(fd),
        "offset": os.lseek(fd, 0, os.SEEK_CUR),
        "size": os.fstat(fd).st_size,
        "mode": os.fstat(fd).st_mode,
        "device": os.fstat(fd).st_dev,
    }


def main() -> None:
    area = mmap(PAGES * PAGE, RW, SHARED | ANON)
    poke(area, pattern(1) + pattern(2))
    writer, reader = map_file(area, os.O_RDWR | os.O_APPEND), map_file(area, os.O_RDONLY)
    munmap(area, PAGES * PAGE)
    os.set_inheritable(reader, True)
    os.lseek(writer, 100, os.SEEK_SET)
    os.lseek(reader, PAGE + 8, os.SEEK_SET)
    before = {fd: describe(fd) for fd in (writer, reader)}
    ready()
    for fd, facts in before.items():
        equal(describe(fd), facts, f"descriptor {fd}")
    check(os.path.sameopenfile(writer, reader), "the two descriptors have come apart")
    equal(os.pread(writer, PAGES * PAGE + 1, 0), pattern(1) + pattern(2) + bytes(PAGE), "contents of the object")
    equal(os.read(reader, 8), pattern(2)[:8], "contents at the offset")
    os.write(writer, b"appended")
    equal(os.pread(reader, 64, PAGES * PAGE), b"appended", "what was appended")


if __name__ == "__main__":
    run(main)
