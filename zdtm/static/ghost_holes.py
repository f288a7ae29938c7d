"""Unlinked files with holes: in front, in the middle, at the end, nothing but a hole, many small ones, 1 GiB, and
2 GiB in front of the only data.

states: deleted-files-and-remaps/ghost-holes, deleted-files-and-remaps/ghost-with-1-gib-hole,
    deleted-files-and-remaps/big-sparse-ghost
flavours: h
kernel: holes of files
"""

import errno
import os

from zdtm.lib.memory import PAGE, pattern
from zdtm.lib.program import check, equal, ready, run

KIB, GIB = 1 << 10, 1 << 30
CHUNK = 16 * KIB
EXTENT_MAP = 16 * KIB
"""Bytes that the file system may need to know where the data is, and to round its end up"""

FILES = {
    "hole in front": ([(CHUNK, CHUNK)], 2 * CHUNK),
    "hole in the middle": ([(0, CHUNK), (2 * CHUNK, CHUNK)], 3 * CHUNK),
    "hole at the end": ([(0, CHUNK)], 2 * CHUNK),
    "all hole": ([], 10 * CHUNK),
    "odd end": ([(CHUNK, 3 * PAGE + 8)], CHUNK + 3 * PAGE + 8),
    "many holes": ([(n * 2 * CHUNK, CHUNK) for n in range(16)], 32 * CHUNK),
    "hole of 1 GiB": ([(0, PAGE), (GIB + PAGE, PAGE)], GIB + 2 * PAGE),
    "hole of 2 GiB in front": ([(2 * GIB, PAGE)], 2 * GIB + PAGE),
}
"""name -> (data as (offset, length)..., size)"""


def extents(fd: int) -> list[tuple[int, int]]:
    """Data as the file system knows it: offset and length."""
    found: list[tuple[int, int]] = []
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:
                return found
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, end - start))


def make(name: str) -> int:
    data, size = FILES[name]
    fd = os.open("file", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    for offset, length in data:
        os.pwrite(fd, pattern(offset + 1, length), offset)
    os.ftruncate(fd, size)
    os.fsync(fd)
    os.unlink("file")
    return fd


def main() -> None:
    fds = {name: make(name) for name in FILES}
    before = {name: extents(fd) for name, fd in fds.items()}
    ready()
    for name, fd in fds.items():
        data, size = FILES[name]
        equal(os.fstat(fd).st_size, size, f"size ({name})")
        equal(extents(fd), before[name], f"extents ({name})")
        for offset, length in data:
            equal(os.pread(fd, length, offset), pattern(offset + 1, length), f"data at {offset:#x} ({name})")
        os.fsync(fd)
        taken = os.fstat(fd).st_blocks * 512 - sum(length for _, length in data)
        check(taken <= EXTENT_MAP, f"{taken} bytes of the disk are taken by holes ({name})")


if __name__ == "__main__":
    run(main)
