"""Open files with an offset: half read, half written, beyond the end, beyond 4 GiB, and in a directory.

states: files/open-file-offset
flavours: h
"""

import os

from zdtm.lib.program import equal, ready, run

FAR = (5 << 30) + 1


def position(fd: int) -> int:
    return os.lseek(fd, 0, os.SEEK_CUR)


def main() -> None:
    with open("read", "w") as file:
        file.write("first half, second half")
    reader, writer = os.open("read", os.O_RDONLY), os.open("written", os.O_WRONLY | os.O_CREAT)
    sparse = os.open("sparse", os.O_RDWR | os.O_CREAT)
    os.read(reader, 10)
    os.write(writer, b"first half, ")
    os.lseek(sparse, FAR, os.SEEK_SET)
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    offsets = {fd: position(fd) for fd in (reader, writer, sparse)}
    # What an offset of a directory means is up to its file system; 0 would be no test.
    in_directory = os.lseek(directory, 0x7FFF, os.SEEK_SET)
    ready()
    for fd, offset in offsets.items():
        equal(position(fd), offset, f"offset of descriptor {fd}")
    equal(position(directory), in_directory, "offset of the directory")
    equal(os.read(reader, 64), b", second half", "the rest of the file that is read")
    os.write(writer, b"second half")
    with open("written", "rb") as file:
        equal(file.read(), b"first half, second half", "the file that is written")
    os.write(sparse, b"far")
    equal(os.stat("sparse").st_size, FAR + 3, "size after a write at the far offset")


if __name__ == "__main__":
    run(main)
