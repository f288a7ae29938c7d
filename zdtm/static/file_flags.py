"""Descriptions of one file that differ in their flags: append, nonblocking, direct, synchronous, no access time.

states: files/o-append
flavours: h
kernel: flags of files
"""

import fcntl
import os

from zdtm.lib.program import equal, ready, run

FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | os.O_SYNC | os.O_DSYNC | os.O_NOATIME
OPENED = {
    "plain": os.O_RDWR,
    "append": os.O_WRONLY | os.O_APPEND,
    "nonblocking": os.O_RDONLY | os.O_NONBLOCK,
    "direct": os.O_RDONLY | os.O_DIRECT,
    "synchronous": os.O_WRONLY | os.O_SYNC,
    "data synchronous": os.O_WRONLY | os.O_DSYNC,
    "without access time": os.O_RDONLY | os.O_NOATIME,
}


def main() -> None:
    with open("file", "w") as file:
        file.write("text;")
    fds = {name: os.open("file", flags) for name, flags in OPENED.items()}
    # Flags that only matter while a file is opened are gone by then.
    os.close(os.open("file", os.O_RDWR | os.O_CREAT))
    created = os.open("other", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TRUNC, 0o600)
    os.write(created, b"kept")
    late = os.open("file", os.O_WRONLY)
    fcntl.fcntl(late, fcntl.F_SETFL, os.O_APPEND)
    ready()
    for name, fd in fds.items():
        equal(fcntl.fcntl(fd, fcntl.F_GETFL) & FLAGS, OPENED[name], f"flags of the {name} description")
    equal(fcntl.fcntl(late, fcntl.F_GETFL) & FLAGS, os.O_WRONLY | os.O_APPEND, "flags that were set later")
    equal(os.pread(created, 64, 0), b"kept", "contents of the file opened with O_EXCL and O_TRUNC")
    os.write(fds["append"], b"one;")
    os.write(late, b"two;")
    os.write(fds["plain"], b"TEXT")
    equal(os.pread(fds["plain"], 64, 0), b"TEXT;one;two;", "contents after two appends and one write")


if __name__ == "__main__":
    run(main)
