"""/proc/PID/mountinfo: the mounts that a task sees (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from engine.kernel.procfs import read


class Mount(NamedTuple):
    """One mount, decoded; without its peer groups.

    dev              of the superblock, in os.makedev() form
    root             the directory of the file system that is mounted, "/" for all of it; "net:[4026531840]" and the
                     like for nsfs; ends in "//deleted" when that directory has been removed
    mountpoint       seen from the task's root directory
    options          of the mount: ["rw", "nosuid", "relatime"]
    fstype           "fuse.sshfs" with its subtype
    sb_options       of the superblock, not split: values may hold commas (SELinux contexts)
    """

    mnt_id: int
    parent_id: int
    dev: int
    root: str
    mountpoint: str
    options: list[str]
    fstype: str
    source: str
    sb_options: str


_ESCAPE = re.compile(rb"\\([0-7]{3})")


def read_mountinfo(pid: int) -> list[Mount]:
    """Mounts below the task's root directory, in the kernel's order: a parent before its children."""
    return [parse_mount(line) for line in mount_lines(pid).values()]


def mount_lines(pid: int) -> dict[int, bytes]:
    """The lines of read_mountinfo() by mnt_id, for who needs few of them: parse_mount() takes 10 µs for each."""
    lines = read(pid, "mountinfo").split(b"\n")
    return {int(line[: line.index(b" ")]): line for line in lines if line}


def parse_mount(line: bytes) -> Mount:
    # The source may be empty, so fields are separated by exactly one space.
    before, _, after = line.partition(b" - ")
    mnt_id, parent_id, dev, root, mountpoint, options, *_ = before.split(b" ")
    fstype, source, sb_options = after.split(b" ", 2)
    major, minor = dev.split(b":")
    return Mount(
        int(mnt_id),
        int(parent_id),
        os.makedev(int(major), int(minor)),
        _decode(root),
        _decode(mountpoint),
        options.decode("ascii").split(","),
        _decode(fstype),
        _decode(source),
        _decode(sb_options),
    )


def _decode(field: bytes) -> str:
    """Undo the octal escapes of blanks, newlines, backslashes and "#"."""
    if b"\\" in field:
        field = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return os.fsdecode(field)
