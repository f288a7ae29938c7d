"""Descriptors of the system console and of a virtual terminal, opened by nodes of our own.

states: tty-and-pty/dev-console-and-vt-nodes
flavours: h
needs: root, file /dev/tty0
"""

import os
import stat

from zdtm.lib.program import equal, ready, run

NODES = {"console": os.makedev(5, 1), "terminal": os.makedev(4, 5)}


def main() -> None:
    fds = {}
    for name, device in NODES.items():
        os.mknod(name, stat.S_IFCHR | 0o600, device)
        fds[name] = os.open(name, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    before = {name: os.fstat(fd) for name, fd in fds.items()}
    ready()
    for name, fd in fds.items():
        equal(os.fstat(fd).st_rdev, NODES[name], f"device behind the {name}")
        equal(os.fstat(fd).st_ino, before[name].st_ino, f"inode of the {name}")


if __name__ == "__main__":
    run(main)
