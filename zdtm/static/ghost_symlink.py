"""O_PATH descriptors of symbolic links that were unlinked: one with another link in its place now, and one with a
very long target.

states: deleted-files-and-remaps/unlinked-symlink
flavours: h
needs: root
"""

import os
import stat

from zdtm.lib.program import check, equal, ready, run

TARGETS = {"gone": "no/such (deleted)", "replaced": "old target", "long": "long/" * 800}


def main() -> None:
    fds = {}
    for name, target in TARGETS.items():
        os.symlink(target, name)
        os.chown(name, 1001, 1002, follow_symlinks=False)
        fds[name] = os.open(name, os.O_PATH | os.O_NOFOLLOW)
        os.unlink(name)
    os.symlink("new target", "replaced")
    ready()
    for name, fd in fds.items():
        status = os.fstat(fd)
        check(stat.S_ISLNK(status.st_mode), f"{name} is no symbolic link")
        equal((status.st_nlink, status.st_uid, status.st_gid), (0, 1001, 1002), f"names and owner of {name}")
        equal(os.readlink("", dir_fd=fd), TARGETS[name], f"target of {name}")
    equal(os.listdir(), ["replaced"], "names in the directory")
    equal(os.readlink("replaced"), "new target", "target of the new link")


if __name__ == "__main__":
    run(main)
