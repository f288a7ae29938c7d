"""Descriptors that the caller has opened before the program was started: memory, and a file with its offset.

states: files/external-fd-pre-opened-by-caller
flavours: h
restore-options: --restore-sibling
outside: Opened
"""

import mmap
import os

from zdtm.lib.outside import FIRST, Outside
from zdtm.lib.program import equal, ready, run

SIZE = mmap.PAGESIZE


class Opened(Outside):
    """Shares the descriptions with the program, so that it sees contents and offset change."""

    def supply(self) -> list[int]:
        memory = self.keep(os.memfd_create("outside"))
        os.truncate(memory, SIZE)
        file = self.keep(os.open(self.directory / "file", os.O_RDWR | os.O_CREAT, 0o600))
        return [os.dup(memory), os.dup(file)]

    def check(self) -> None:
        memory, file = self.kept
        equal(os.pread(memory, 64, 0).rstrip(b"\0"), b"written, mapped", "contents of the memory")
        equal(os.lseek(memory, 0, os.SEEK_CUR), len(b"written"), "offset of the memory")
        equal(os.lseek(file, 0, os.SEEK_CUR), len(b"over there"), "offset of the file")


def main() -> None:
    memory, file = FIRST, FIRST + 1
    mapping = mmap.mmap(memory, SIZE)
    ready()
    os.write(memory, b"written")
    mapping[len(b"written") : len(b"written, mapped")] = b", mapped"
    os.write(file, b"over there")


if __name__ == "__main__":
    run(main)
