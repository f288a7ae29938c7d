"""An open file has lost the name by which it was opened, but has another one that nothing tells; and another has two
descriptions, of which one was opened by the lost name.

states: deleted-files-and-remaps/unlinked-name-other-link-alive-link-remap
flavours: h
modes: not snapshot: the link of a successful dump stays, and the original that goes on sees it
options: --link-remap
"""

import os

from zdtm.lib.program import check, equal, ready, run


def renamed(name: str, survivor: str) -> int:
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(fd, f"text of {name}".encode())
    os.link(name, survivor)
    os.unlink(name)
    return fd


def main() -> None:
    os.mkdir("away")
    fds = {survivor: renamed(name, survivor) for name, survivor in (("a", "b"), ("c", "away/d"))}
    by_survivor = os.open("away/d", os.O_RDONLY)
    before = {survivor: os.fstat(fd) for survivor, fd in fds.items()}
    ready()
    equal(sorted(os.listdir()), ["away", "b"], "names in the directory")
    equal(os.listdir("away"), ["d"], "names in the other directory")
    for survivor, fd in fds.items():
        status = os.fstat(fd)
        check(os.path.samestat(status, before[survivor]), f"the descriptor of {survivor} has become another file")
        check(os.path.samestat(status, os.stat(survivor)), f"the descriptor of {survivor} and its name have come apart")
        equal(status.st_nlink, 1, f"number of names of {survivor}")
        equal(status.st_mtime_ns, before[survivor].st_mtime_ns, f"time of modification of {survivor}")
    check(os.path.sameopenfile(fds["away/d"], by_survivor), "two descriptors of one file have come apart")
    os.write(fds["b"], b", written")
    with open("b") as file:
        equal(file.read(), "text of a, written", "contents by the name that is left")


if __name__ == "__main__":
    run(main)
