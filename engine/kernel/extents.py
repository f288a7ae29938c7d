"""Where the data of a file is, holes left out, and moving it from file to file inside the kernel.

SEEK_DATA and SEEK_HOLE (lseek(2)) know every file system: one that can't tell says that all is data. They also see
pages that have not reached the disk. FIEMAP (Documentation/filesystems/fiemap.rst) answers for many extents at once,
but only for what is on disk, so it has the file written there first.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Range = tuple[int, int]

_FS_IOC_FIEMAP = 0xC020660B
_HEAD = struct.Struct("<QQIIII")
_EXTENT = struct.Struct("<QQQ16xI12x")
_FLAG_SYNC = 1
_EXTENT_LAST, _EXTENT_UNWRITTEN = 0x1, 0x800
_EXTENTS_AT_ONCE = 512


def data_ranges(fd: int, size: int, fiemap: bool = False) -> list[Range]:
    """(start, end) of the data in the first `size` bytes, ascending, none touching the next.

    fd is a regular file of our own: its offset moves. fiemap: ask by FIEMAP where the file system has it.
    """
    if fiemap:
        try:
            return _joined(_fiemap(fd, size))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADR):
                raise
    return _joined(_seek_data(fd, size))


def _seek_data(fd: int, size: int) -> Iterator[Range]:
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        if start >= size:
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, end


def _fiemap(fd: int, size: int) -> Iterator[Range]:
    import fcntl

    position = 0
    while position < size:
        request = bytearray(_HEAD.size + _EXTENTS_AT_ONCE * _EXTENT.size)
        _HEAD.pack_into(request, 0, position, size - position, _FLAG_SYNC, 0, _EXTENTS_AT_ONCE, 0)
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, request, True)
        count = _HEAD.unpack_from(request)[3]
        if count == 0:
            return
        for index in range(count):
            start, _, length, flags = _EXTENT.unpack_from(request, _HEAD.size + index * _EXTENT.size)
            position = start + length
            if not flags & _EXTENT_UNWRITTEN and start < size:
                yield start, min(position, size)
            if flags & _EXTENT_LAST:
                return


def _joined(ranges: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def copy_range(source: int, source_offset: int, target: int, target_offset: int, length: int) -> None:
    """Copy bytes from a regular file to another by sendfile(2); the target's offset ends behind them.

    Raises EOFError when the source is shorter.
    """
    os.lseek(target, target_offset, os.SEEK_SET)
    while length:
        done = os.sendfile(target, source, source_offset, min(length, 1 << 30))
        if not done:
            raise EOFError(f"the file ends at byte {source_offset}, {length} more are wanted")
        source_offset += done
        length -= done
