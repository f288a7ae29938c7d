"""Files that inotify and fanotify watch. They need not be open anywhere, and the kernel names them by handles only.

The image gets the handle and the path that it leads to now; some file systems give handles that lead nowhere, and then
the path has to be looked for (irmap.py). A restore takes the path as long as it leads to the file of
the same inode number, else the handle, else whatever has the path: the images may have come from another machine. A
deleted file comes back as a ghost, which is found by the device and inode number that it had.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel.file_handles import MAX_HANDLE_SIZE, open_handle
from engine.kernel.proc_fdinfo import FileHandle, decode_sdev
from engine.kernel.proc_mountinfo import Mount, read_mountinfo
from engine.objects.irmap import InodeMap
from engine.objects.paths import DELETED, open_name
from engine.objects.restored_remap import RestoredRemaps

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_WORDS = struct.Struct("<16Q")
_NO_HANDLE = FileHandle(0, b"")


class WatchedFile(NamedTuple):
    """sdev: as the kernel has it, see decode_sdev(); path: None for a file that can't be named."""

    ino: int
    sdev: int
    handle: FileHandle
    path: str | None


class Mounts:
    """The mounts that the engine sees, and a descriptor of one of each file system when it is asked for."""

    def __init__(self, ctx: DumpContext | RestoreContext) -> None:
        self.mounts: list[Mount] = read_mountinfo(os.getpid())

    def open(self, device: int) -> int:
        """A descriptor (O_PATH) of a mount point. Raises FileNotFoundError when the file system is not mounted."""
        found = [mount for mount in self.mounts if mount.dev == device]
        for mount in sorted(found, key=lambda mount: mount.root != "/"):
            fd = open_name(mount.mountpoint, os.O_PATH)
            if os.fstat(fd).st_dev == device:
                return fd
            os.close(fd)
        raise FileNotFoundError(f"device {os.major(device)}:{os.minor(device)} is not mounted here")


# Dump


def find(file: OpenFile, ino: int, sdev: int, handle: FileHandle | None, ctx: DumpContext) -> WatchedFile | None:
    """What a mark is on. None when a restore could not find it; that is added to the problems."""
    device = decode_sdev(sdev)
    what = f"{file}: watches inode {ino} of device {os.major(device)}:{os.minor(device)}"
    path, deleted = None, False
    why = "its file system does not give handles of its files"
    try:
        if handle is not None:
            path, deleted = _path_of(ctx.part(Mounts).open(device), handle)
    except OSError as error:
        why = str(error.strerror)
    if not deleted and (path is None or ctx.opts.force_irmap):
        path = ctx.part(InodeMap).find((device, ino))
        if path is None:
            remedy = "name the directory it is in by --irmap-scan-path, or remove the watch"
            ctx.problems.add(f"{what}, which can't be found: {why}", file.task.pid, remedy)
            return None
    if deleted and not any((held.stat.st_dev, held.stat.st_ino) == (device, ino) for held in ctx.files):
        why = "which is deleted and not open in any task of the tree"
        ctx.problems.add(f"{what}, {path}, {why}", file.task.pid, "remove the watch")
        return None
    return WatchedFile(ino, sdev, handle or _NO_HANDLE, None if deleted else path)


def _path_of(mount: int, handle: FileHandle) -> tuple[str, bool]:
    """(path of the file behind a handle, whether it is deleted)."""
    try:
        fd = open_handle(mount, handle)
    finally:
        os.close(mount)
    try:
        link = os.readlink(f"/proc/self/fd/{fd}")
        return link.removesuffix(DELETED), os.fstat(fd).st_nlink == 0 or link.endswith(DELETED)
    finally:
        os.close(fd)


def describe(entry: Message, watched: WatchedFile) -> None:
    """Fill a fh_entry."""
    entry.bytes, entry.type = len(watched.handle.handle), watched.handle.type
    entry.handle.extend(_WORDS.unpack(watched.handle.handle.ljust(MAX_HANDLE_SIZE, b"\0")))
    if watched.path is not None:
        set_text(entry, "path", watched.path)


# Restore


class OldItems:
    """Watches and marks in old images, which have them in a file of their own."""

    image: str

    def __init__(self, ctx: RestoreContext) -> None:
        self._by_group: dict[int, list[Message]] = {}
        for item in ctx.images.read(self.image):
            self._by_group.setdefault(item.id, []).append(item)

    def of(self, entry: Message) -> list[Message]:
        """Those of one inotify instance or fanotify group."""
        return self._by_group.get(entry.id, [])


def open_watched(sdev: int, ino: int, entry: Message, ctx: RestoreContext) -> int:
    """A descriptor (O_PATH) of the file that a mark was on. entry: its fh_entry."""
    ghost = ctx.part(RestoredRemaps).find_ghost(sdev, ino)
    if ghost is not None:
        return os.dup(ghost)
    by_path = _open_path(entry)
    if by_path is not None and os.fstat(by_path).st_ino == ino:
        return by_path
    try:
        mount = ctx.part(Mounts).open(decode_sdev(sdev))
        try:
            fd = open_handle(mount, _handle_of(entry))
        finally:
            os.close(mount)
    except OSError as error:
        if by_path is not None:
            return by_path
        name = get_text(entry.path) or f"inode {ino}"
        raise CrError(f"{name}, which was watched, can't be found: {error.strerror} (put it back)") from error
    if by_path is not None:
        os.close(by_path)
    return fd


def _open_path(entry: Message) -> int | None:
    if not entry.HasField("path"):
        return None
    try:
        return open_name("/" + get_text(entry.path).lstrip("/"), os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None


def _handle_of(entry: Message) -> FileHandle:
    words = list(entry.handle)[: MAX_HANDLE_SIZE // 8]
    content = struct.pack(f"<{len(words)}Q", *words)
    return FileHandle(entry.type, content[: min(entry.bytes, len(content))])
