"""Build ids of files: by them a restore tells whether an executable or a library is the one that was dumped.

A dump reads those of mapped files ahead, while the tree still runs. What has been read holds for as long as number,
size and times of the file stay.
"""

from __future__ import annotations

import os
import stat

from engine.kernel.elf import HEADER_SIZE, read_build_id
from engine.objects.paths import reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from engine.kernel.proc_maps import Vma

_OPEN = os.O_RDONLY | os.O_NOATIME | os.O_NONBLOCK
_PROT_EXEC = 4

_read: dict[tuple[int, ...], list[int]] = {}


def words(fd: int, info: os.stat_result, leased: Container[int] = ()) -> list[int]:
    """The build id of an executable or library as the image has it, empty for all other files.

    fd      a descriptor for it, O_PATH will do; info: its status
    leased  inode numbers of files that tasks have leases on: opening one would break the lease

    All others are opened for the purpose, so that their access time stays.
    """
    if info.st_size < HEADER_SIZE:
        return []
    known = _read.get(_identity(info))
    if known is not None:
        return known
    try:
        if info.st_ino in leased:
            return _words(read_build_id(fd))
        own = reopen(fd, _OPEN)
        try:
            return _words(read_build_id(own))
        finally:
            os.close(own)
    except OSError:
        return []


def read_ahead(path: str, vma: Vma, info: os.stat_result, leased: Container[int]) -> None:
    """Read that of a mapped file, by the path of its link in /proc.

    Code is looked for, and files on disks: others might do something when they are read.
    """
    wanted = stat.S_ISREG(info.st_mode) and (vma.prot & _PROT_EXEC or os.major(info.st_dev))
    if not wanted or vma.shared or vma.ino in leased or info.st_size < HEADER_SIZE or _identity(info) in _read:
        return
    fd = os.open(path, _OPEN | os.O_CLOEXEC)
    try:
        _read[_identity(os.fstat(fd))] = _words(read_build_id(fd))
    finally:
        os.close(fd)


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _words(build_id: bytes) -> list[int]:
    padded = build_id + bytes(-len(build_id) % 4)
    return [int.from_bytes(padded[at : at + 4], "little") for at in range(0, len(padded), 4)]
