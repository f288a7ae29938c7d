"""Ghosts: files that nobody can reach by a name any more but that are still open, mapped or somebody's directory.

All of a ghost goes into ghost-file-ID.img: what it is, whose, and its bytes without the holes. A restore makes it
anew (objects/remap.py says under which names for how long), fills it when it has no name any more, and last gives it
its owner, mode and times.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.extents import copy_range, data_ranges
from engine.objects.paths import reopen

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.images.directory import ImageDir
    from engine.images.reader import ImageReader

Message = Any

_CHUNKS_FROM = 12288
"""A file of so many bytes or more is stored as chunks, as CRIU does."""
_MICROSECOND = 1000
_SECOND = 1_000_000_000
_MASK64 = (1 << 64) - 1
_MAX_SIZE = 1 << 62


def data_size(fd: int, info: os.stat_result, ctx: DumpContext) -> int:
    """Bytes that the ghost would have in its image: --ghost-limit is about these, not about holes."""
    if not stat.S_ISREG(info.st_mode):
        return 0
    own = reopen(fd, os.O_RDONLY | os.O_NOATIME)
    try:
        return sum(end - start for start, end in data_ranges(own, info.st_size, ctx.opts.ghost_fiemap))
    finally:
        os.close(own)


def dump(fd: int, info: os.stat_result, ghost_id: int, ctx: DumpContext) -> None:
    """Write ghost-file-ID.img. fd: any descriptor of the file, whatever it was opened for."""
    from engine.images.schema import message

    entry = message("ghost_file_entry")(uid=info.st_uid, gid=info.st_gid, mode=info.st_mode, ino=info.st_ino)
    entry.dev = os.major(info.st_dev) << 20 | os.minor(info.st_dev)
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        entry.rdev = info.st_rdev
    if stat.S_ISLNK(info.st_mode):
        entry.symlnk_target = os.readlink("", dir_fd=fd)
    for field, time in ((entry.atim, info.st_atime_ns), (entry.mtim, info.st_mtime_ns)):
        field.tv_sec, field.tv_usec = time // _SECOND & _MASK64, time % _SECOND // _MICROSECOND
    with ctx.images.writer("GHOST_FILE", ghost_id) as image:
        if not stat.S_ISREG(info.st_mode):
            image.put(entry)
            return
        entry.chunks = info.st_size >= _CHUNKS_FROM
        if entry.chunks:
            entry.size = info.st_size
        image.put(entry)
        own = reopen(fd, os.O_RDONLY | os.O_NOATIME)
        try:
            ranges = [(0, info.st_size)]
            if entry.chunks:
                ranges = data_ranges(own, info.st_size, ctx.opts.ghost_fiemap)
            for start, end in ranges:
                if entry.chunks:
                    image.put(message("ghost_chunk_entry")(len=end - start, off=start))
                image.copy(own, start, end - start)
        finally:
            os.close(own)


# Restore


def read(images: ImageDir, ghost_id: int) -> Message:
    """ghost_file_entry of an image. Raises CrError when it describes no possible file."""
    with images.reader("GHOST_FILE", ghost_id) as image:
        entry = next(image)
        kinds = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISLNK, stat.S_ISSOCK)
        if not any(is_kind(entry.mode) for is_kind in kinds):
            raise image.error(f"it is of a file with the impossible mode {entry.mode:#o}")
        if entry.size > _MAX_SIZE:
            raise image.error(f"it is of a file of {entry.size} bytes")
        return entry


def create(entry: Message, directory: int, name: str) -> None:
    """Make the file, empty and the engine's own, under a name that is free."""
    if stat.S_ISDIR(entry.mode):
        os.mkdir(name, 0o700, dir_fd=directory)
    elif stat.S_ISLNK(entry.mode):
        from engine.images.text import get_text

        os.symlink(get_text(entry.symlnk_target), name, dir_fd=directory)
    else:
        os.mknod(name, stat.S_IFMT(entry.mode) | 0o600, entry.rdev, dir_fd=directory)


def complete(images: ImageDir, ghost_id: int, fd: int) -> None:
    """Give a file that was made its bytes, owner, mode and times. fd: a descriptor of it, O_PATH will do."""
    with images.reader("GHOST_FILE", ghost_id) as image:
        entry = next(image)
        try:
            if stat.S_ISREG(entry.mode):
                own = reopen(fd, os.O_WRONLY)
                try:
                    _fill(image, entry, own)
                finally:
                    os.close(own)
            _set_attributes(entry, f"/proc/self/fd/{fd}")
        except OSError as error:
            raise CrError(f"{image.path}: the file can't be made again: {error.strerror}") from error


def _fill(image: ImageReader, entry: Message, target: int) -> None:
    if not entry.chunks:
        source, offset, length = image.payload_at()
        copy_range(source, offset, target, 0, length)
        return
    os.ftruncate(target, entry.size)
    while image.left:
        chunk = image.entry("ghost_chunk_entry")
        if chunk.off + chunk.len > entry.size:
            raise image.error(f"a chunk of {chunk.len} bytes at {chunk.off} is beyond the file's {entry.size} bytes")
        source, offset, length = image.payload_at(chunk.len)
        copy_range(source, offset, target, chunk.off, length)


def _set_attributes(entry: Message, path: str) -> None:
    """Owner first, since changing it clears the set-user-ID bit; times last, since all else changes them."""
    os.chown(path, entry.uid, entry.gid)
    if not stat.S_ISLNK(entry.mode):
        os.chmod(path, stat.S_IMODE(entry.mode))
    if entry.HasField("mtim"):
        os.utime(path, ns=(_nanoseconds(entry.atim), _nanoseconds(entry.mtim)))


def _nanoseconds(time: Message) -> int:
    """A timeval as os.utime() takes it. Seconds before 1970 stand in the unsigned field as the kernel has them."""
    seconds = time.tv_sec - (1 << 64) if time.tv_sec >> 63 else time.tv_sec
    return int(seconds * _SECOND + time.tv_usec * _MICROSECOND)
