"""A file made with O_TMPFILE, which never had a name, in a directory that nobody may write to.

states: deleted-files-and-remaps/o-tmpfile-file
flavours: h
"""

import os
import stat

from zdtm.lib.program import equal, ready, run


def main() -> None:
    os.mkdir("directory")
    fd = os.open("directory", os.O_RDWR | os.O_TMPFILE, 0o640)
    os.write(fd, b"never had a name")
    os.lseek(fd, 6, os.SEEK_SET)
    os.chmod("directory", 0o500)
    ready()
    status = os.fstat(fd)
    equal(os.read(fd, 64), b"had a name", "contents from the offset on")
    equal(oct(stat.S_IMODE(status.st_mode)), oct(0o640), "mode")
    equal((status.st_size, status.st_nlink), (16, 0), "size and number of names")
    equal(stat.S_IMODE(os.stat("directory").st_mode), 0o500, "mode of the directory")
    equal(os.listdir("directory"), [], "names in the directory")


if __name__ == "__main__":
    run(main)
