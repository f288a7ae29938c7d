"""Unlinked files whose former names have quotes, newlines, percent signs and backslashes, bytes that are no text, or
look deleted, in a directory that nobody may write to.

states: deleted-files-and-remaps/odd-names-and-read-only-parent
flavours: h
needs: root
"""

import os
import stat

from zdtm.lib.program import equal, ready, run

NAMES = [
    b"quotes ' \" `",
    b"new\nline and\ttab",
    b"per %s cent %n %%",
    b"back \\ slash \\040",
    b"no text \xff\xfe",
    b"file (deleted)",
    b"link_remap.1",
    b"x" * 200,
]


def main() -> None:
    os.mkdir("directory")
    fds = {}
    for name in NAMES:
        path = os.path.join(b"directory", name)
        fds[name] = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fds[name], name)
        os.unlink(path)
    os.chmod("directory", 0o500)
    ready()
    equal(stat.S_IMODE(os.stat("directory").st_mode), 0o500, "mode of the directory")
    equal(os.listdir("directory"), [], "names in the directory")
    for name, fd in fds.items():
        equal(os.pread(fd, 1024, 0), name, f"contents of the file once named {name!r}")
        link = os.readlink(os.fsencode(f"/proc/self/fd/{fd}"))
        equal(os.path.basename(link), name + b" (deleted)", "former name")


if __name__ == "__main__":
    run(main)
