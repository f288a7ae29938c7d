"""/proc/locks and the "lock:" lines of fdinfo: file locks and leases (proc_locks(5))."""

from __future__ import annotations

import os
from typing import NamedTuple


class FileLock(NamedTuple):
    """One lock.

    blocked   a waiter for a lock, shown only in /proc/locks ("->")
    kind      "POSIX", "FLOCK", "OFDLCK", "LEASE", "DELEG" or "ACCESS"
    mode      "ADVISORY"; of a lease "ACTIVE", "BREAKING" or "BREAKER"
    access    "READ", "WRITE" or "UNLCK" (what a lease that is being broken comes down to)
    pid       who took it, as seen from the engine's pid namespace; -1 for OFDLCK, 0 for somebody outside
    dev, ino  of the file, dev in os.makedev() form; on btrfs and overlayfs the superblock's, not that of stat(2)
    start     first byte
    end       last byte, None for the end of the file
    """

    blocked: bool
    kind: str
    mode: str
    access: str
    pid: int
    dev: int
    ino: int
    start: int
    end: int | None


def read_locks() -> list[FileLock]:
    """All file locks whose holders the engine's pid namespace can see."""
    with open("/proc/locks", encoding="ascii") as file:
        return [parse_lock(line) for line in file]


def parse_lock(line: str) -> FileLock:
    """line: "1: POSIX  ADVISORY  WRITE 3568 fe:00:2531452 0 EOF", with "->" before the kind of a waiter."""
    _, *fields = line.split()
    blocked = fields[0] == "->"
    kind, mode, access, pid, inode, start, end = fields[blocked:]
    *dev, ino = inode.split(":")
    major, minor = dev if len(dev) == 2 else ("0", "0")  # "<none>:0" where the file has no inode any more
    return FileLock(
        blocked,
        kind,
        mode,
        access,
        int(pid),
        os.makedev(int(major, 16), int(minor, 16)),
        int(ino),
        int(start),
        None if end == "EOF" else int(end),
    )
