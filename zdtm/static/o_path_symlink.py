"""O_PATH descriptors of symbolic links themselves: one that leads somewhere, one that leads nowhere.

states: files/o-path-o-nofollow-symlink
flavours: h
"""

import fcntl
import os
import stat

from zdtm.lib.program import check, equal, ready, run

TARGETS = {"good": "file", "dangling": "no/such file", "absolute": "/"}


def main() -> None:
    with open("file", "w"):
        pass
    for name, target in TARGETS.items():
        os.symlink(target, name)
    fds = {name: os.open(name, os.O_PATH | os.O_NOFOLLOW) for name in TARGETS}
    flags = {name: fcntl.fcntl(fd, fcntl.F_GETFL) for name, fd in fds.items()}
    ready()
    for name, fd in fds.items():
        status = os.fstat(fd)
        check(stat.S_ISLNK(status.st_mode), f"the descriptor of the {name} link is no symbolic link")
        check(os.path.samestat(os.lstat(name), status), f"the {name} link is another one than by name")
        equal(os.readlink("", dir_fd=fd), TARGETS[name], f"target of the {name} link")
        equal(fcntl.fcntl(fd, fcntl.F_GETFL), flags[name], f"flags of the {name} link")


if __name__ == "__main__":
    run(main)
