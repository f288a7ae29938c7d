"""Unlinked files whose name has been taken: by another file, which is open too, by a directory, and by a third file
that is unlinked as well.

states: deleted-files-and-remaps/unlinked-file-name-reused
flavours: h
"""

import os

from zdtm.lib.program import equal, ready, run


def make(name: str, text: str) -> int:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, text.encode())
    return fd


def main() -> None:
    under_file, under_directory, twice = (make(name, f"old {name}") for name in ("file", "directory", "twice"))
    for name in ("file", "directory", "twice"):
        os.unlink(name)
    file, again = make("file", "new file"), make("twice", "second twice")
    os.unlink("twice")
    os.mkdir("directory")
    inode = os.fstat(file).st_ino
    ready()
    texts = {under_file: b"old file", under_directory: b"old directory", twice: b"old twice", again: b"second twice"}
    for fd, text in texts.items():
        equal(os.pread(fd, 64, 0), text, f"contents of unlinked file {fd}")
        equal(os.fstat(fd).st_nlink, 0, f"number of names of unlinked file {fd}")
    equal(sorted(os.listdir()), ["directory", "file"], "names in the directory")
    equal(os.listdir("directory"), [], "names in the directory that has taken a name")
    equal(os.pread(file, 64, 0), b"new file", "contents of the file that has taken a name")
    equal((os.fstat(file).st_ino, os.stat("file").st_ino), (inode, inode), "inode of that file, also by name")
    os.pwrite(under_file, b"OLD", 0)
    with open("file") as named:
        equal(named.read(), "new file", "contents by name after a write to the unlinked file")


if __name__ == "__main__":
    run(main)
