"""Open directories that have been removed: one below the other, and one whose name is a file now.

states: deleted-files-and-remaps/removed-open-directory
flavours: h
"""

import os
import stat

from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    os.makedirs("outer/inner")
    os.mkdir("reused")
    os.chmod("outer/inner", 0o1751)
    fds = {name: os.open(name, os.O_RDONLY | os.O_DIRECTORY) for name in ("outer", "outer/inner", "reused")}
    again = os.open("outer/inner", os.O_RDONLY)
    for name in ("outer/inner", "outer", "reused"):
        os.rmdir(name)
    with open("reused", "w"):
        pass
    modes = {name: os.fstat(fd).st_mode for name, fd in fds.items()}
    ready()
    for name, fd in fds.items():
        status = os.fstat(fd)
        check(stat.S_ISDIR(status.st_mode), f"{name} is no directory")
        equal(oct(status.st_mode), oct(modes[name]), f"mode of {name}")
        equal(status.st_nlink, 0, f"number of names of {name}")
        equal(os.listdir(fd), [], f"names in {name}")
        try:
            os.mkdir("below", dir_fd=fd)
        except FileNotFoundError:
            continue
        check(False, f"something could be made in {name}")
    check(os.path.sameopenfile(fds["outer/inner"], again), "two descriptors of one directory have come apart")
    equal(len({os.fstat(fd).st_ino for fd in fds.values()}), 3, "number of directories")
    equal(os.listdir(), ["reused"], "names in the current directory")
    check(stat.S_ISREG(os.stat("reused").st_mode), "the file that has taken a name is none")


if __name__ == "__main__":
    run(main)
