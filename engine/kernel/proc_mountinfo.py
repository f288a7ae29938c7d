"""/proc/PID/mountinfo: the mounts that a task sees (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from engine.kernel.procfs import read


class Mount(NamedTuple):
    """One mount, every field decoded.

    dev              of the superblock, in os.makedev() form
    root             the directory of the file system that is mounted, "/" for all of it; "net:[4026531840]" and the
                     like for nsfs; ends in "//deleted" when that directory has been removed
    mountpoint       seen from the task's root directory
    options          of the mount: ["rw", "nosuid", "relatime"]
    shared_id        peer group it belongs to, 0 for none
    master_id        peer group it receives from, 0 for none
    propagate_from   nearest peer group under the task's root that it receives from, 0 if that is master_id
    fstype           "fuse.sshfs" with its subtype
    sb_options       of the superblock, not split: values may hold commas (SELinux contexts)
    """

    mnt_id: int
    parent_id: int
    dev: int
    root: str
    mountpoint: str
    options: list[str]
    shared_id: int
    master_id: int
    propagate_from: int
    unbindable: bool
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
    mnt_id, parent_id, dev, root, mountpoint, options, *tags = before.split(b" ")
    fstype, source, sb_options = after.split(b" ", 2)
    groups = dict(tag.split(b":") for tag in tags if b":" in tag)
    major, minor = dev.split(b":")
    return Mount(
        int(mnt_id),
        int(parent_id),
        os.makedev(int(major), int(minor)),
        _decode(root),
        _decode(mountpoint),
        options.decode("ascii").split(","),
        int(groups.get(b"shared", 0)),
        int(groups.get(b"master", 0)),
        int(groups.get(b"propagate_from", 0)),
        b"unbindable" in tags,
        _decode(fstype),
        _decode(source),
        _decode(sb_options),
    )


def _decode(field: bytes) -> str:
    """Undo the octal escapes of blanks, newlines, backslashes and "#"."""
    if b"\\" in field:
        field = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return os.fsdecode(field)
