"""Names for kernel objects whose numbers change with every checkpoint: inode numbers of pipes, sockets, unlinked files.

An object is called after whoever has it first, walking tasks and descriptors in order: "pipe of 2:3" is the pipe at
descriptor 3 of task 2. Two pictures of the same tree give the same names, and a lost object renames no other one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

DELETED = " (deleted)"
NUMBERED = re.compile(r"(\w+):\[\d+\]$")
RENAMED = (
    # Anonymous shared memory that a checkpoint turned into a memfd; nothing but this name tells.
    (re.compile(r"^/memfd:/dev/zero"), "/dev/zero"),
    # An unlinked file whose name belongs to another file now can only come back under a name beside it.
    (re.compile(r"\.cr\.[0-9a-f]+\.ghost$"), ""),
    # A file made with O_TMPFILE never had a name; its inode number stands for one.
    (re.compile(r"/#\d+$"), "/#"),
)
"""What the link of an unlinked file says and what it stands for."""


def opener(path: str) -> Callable[[], int]:
    """A function that opens for reading what a /proc entry leads to, without a trace on its access time."""
    return lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME)


class Names:
    """One per picture."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], str] = {}
        self._numbered: dict[tuple[str, str], str] = {}
        self._proc_device = os.stat("/proc").st_dev
        self.unlinked: dict[str, Callable[[], int]] = {}
        """name -> function that opens it for reading, of regular files that live only through their users"""

    def of(self, link: str, status: os.stat_result, holder: str, open_it: Callable[[], int]) -> str:
        """The name of an open file or a mapped one.

        link     what readlink on the /proc entry says
        holder   "PID:FD" or "PID:ADDRESS"
        open_it  gives a descriptor for reading
        """
        identity = (status.st_dev, status.st_ino)
        numbered = NUMBERED.match(link)
        if numbered and numbered[1] not in ("mnt", "net", "ipc", "uts", "user", "pid", "cgroup", "time"):
            return self._names.setdefault(identity, f"{numbered[1]} of {holder}")
        if link.startswith("anon_inode:") or numbered:
            return link
        if link.startswith("/[aio]"):
            return self._names.setdefault(identity, f"aio ring of {holder}")
        if status.st_dev == self._proc_device or status.st_nlink > 0:
            # Each sandbox has a procfs and a devpts of its own, in which the name says it all.
            is_own = status.st_dev == self._proc_device or link.startswith("/dev/pts/")
            return link if is_own else f"{link} (inode {status.st_dev:x}:{status.st_ino})"
        path = link.removesuffix(DELETED)
        for pattern, stands_for in RENAMED:
            path = pattern.sub(stands_for, path)
        name = self._names.setdefault(identity, f"{path} of {holder}, unlinked")
        if stat.S_ISREG(status.st_mode):
            self.unlinked.setdefault(name, open_it)
        return name

    def of_number(self, kind: str, number: str, holder: str) -> str:
        """The name of an object that the kernel numbers by itself."""
        return self._numbered.setdefault((kind, number), f"{kind} of {holder}")

    def of_inode(self, device: int, inode: int) -> str | None:
        """The name an object already has."""
        return self._names.get((device, inode))
