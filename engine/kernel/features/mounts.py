"""Probes for mounts. All run in a child with a mount namespace of its own, over a tmpfs that only it can see."""

from __future__ import annotations

import os

from engine.kernel.features.child import CLONE_NEWNS, in_child
from engine.kernel.libc import NR, syscall

_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SHARED = 1 << 12, 1 << 14, 1 << 18, 1 << 20
_MOVE_MOUNT_SET_GROUP = 0x100
_AT_FDCWD = -100
_BASE = "/proc"  # hidden in the child by the tmpfs; every system has it


def autofs() -> bool:
    """autofs shows the pipe to its daemon in its mount options, pipe_ino= (d3ab7ee6e1b5, Linux 4.6)."""
    return in_child(_autofs_shows_pipe, CLONE_NEWNS)


def _autofs_shows_pipe() -> bool:
    mountinfo = os.open("/proc/self/mountinfo", os.O_RDONLY)
    _own_tmpfs()
    os.mkdir(f"{_BASE}/auto")
    _, daemon = os.pipe()
    options = f"fd={daemon},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect"
    _mount("probe", f"{_BASE}/auto", "autofs", 0, options)
    return b"pipe_ino=" in _read_all(mountinfo)


def move_mount_set_group() -> bool:
    """move_mount(MOVE_MOUNT_SET_GROUP) copies the peer group of a mount (9ffb14ef61bab8, Linux 5.15)."""
    return in_child(_groups_can_be_set, CLONE_NEWNS)


def _groups_can_be_set() -> bool:
    _own_tmpfs()
    for name in ("shared", "private"):
        os.mkdir(f"{_BASE}/{name}")
        _mount(_BASE, f"{_BASE}/{name}", "", _MS_BIND)
    _mount("", f"{_BASE}/shared", "", _MS_SHARED)
    source, target = _path(f"{_BASE}/shared"), _path(f"{_BASE}/private")
    syscall(NR["move_mount"], _AT_FDCWD, source, _AT_FDCWD, target, _MOVE_MOUNT_SET_GROUP)
    return True


def overlayfs_maps() -> bool:
    """/proc/PID/maps names the device and inode of the overlay file, not those of the layer below it (Linux 6.8)."""
    return in_child(_maps_show_overlay, CLONE_NEWNS)


def _maps_show_overlay() -> bool:
    import mmap

    maps = os.open("/proc/self/maps", os.O_RDONLY)
    _own_tmpfs()
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{_BASE}/{name}")
    with open(f"{_BASE}/lower/file", "wb") as file:
        file.write(b"x")
    options = f"lowerdir={_BASE}/lower,upperdir={_BASE}/upper,workdir={_BASE}/work"
    _mount("probe", f"{_BASE}/merged", "overlay", 0, options)
    with open(f"{_BASE}/merged/file", "rb") as file:
        info = os.fstat(file.fileno())
        mapped = mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ)
    expected = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x} {info.st_ino} ".encode()
    line = next(line for line in _read_all(maps).splitlines() if b"/merged/file" in line)
    mapped.close()
    return expected in line


def _own_tmpfs() -> None:
    """A tmpfs over _BASE that no other namespace gets to see."""
    _mount("", "/", "", _MS_REC | _MS_PRIVATE)
    _mount("probe", _BASE, "tmpfs", 0)
    _mount("", _BASE, "", _MS_PRIVATE)


def _mount(source: str, target: str, fstype: str, flags: int, options: str = "") -> None:
    syscall(NR["mount"], _path(source), _path(target), _path(fstype), flags, _path(options))


def _path(name: str) -> bytes:
    return os.fsencode(name) + b"\0"


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()
