"""O_PATH descriptors: of a regular file, a directory, a fifo that nobody has open, and a socket, which cannot be
opened in any other way.

states: files/o-path
flavours: h
"""

import errno
import fcntl
import os
import socket

from zdtm.lib.program import check, equal, ready, run

FLAGS = os.O_ACCMODE | os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


def main() -> None:
    with open("file", "w") as file:
        file.write("text")
    os.mkdir("directory")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    fds = {name: os.open(name, os.O_PATH) for name in ("file", "directory", "fifo", "socket")}
    inodes = {name: os.fstat(fd).st_ino for name, fd in fds.items()}
    ready()
    for name, fd in fds.items():
        equal(fcntl.fcntl(fd, fcntl.F_GETFL) & FLAGS, os.O_PATH, f"flags of the {name}")
        equal(os.fstat(fd).st_ino, inodes[name], f"inode of the {name}")
        check(os.path.samestat(os.stat(name), os.fstat(fd)), f"the {name} is another one than by name")
        try:
            os.read(fd, 1)
        except OSError as refusal:
            equal(refusal.errno, errno.EBADF, f"errno of reading the {name}")
        else:
            check(False, f"the {name} could be read")
    with open(f"/proc/self/fd/{fds['file']}") as file:
        equal(file.read(), "text", "contents, by opening the descriptor again")
    os.mkfifo("inside", dir_fd=fds["directory"])
    equal(os.listdir("directory"), ["inside"], "what was made by the directory's descriptor")


if __name__ == "__main__":
    run(main)
