"""irmap: from an inode to a path, where the file system does not find a file by its handle (overlayfs, for one), or
where the user wants to have the paths known (--force-irmap).

Directories are looked through, those of --irmap-scan-path first, then those in which daemons like to watch something.
That they are is seen by whoever watches them for being read. A pre-dump with --force-irmap leaves what it has found in
irmap-cache of the work directory, for the next one and the dump; names may have changed by then, so none is taken
before it has been looked at again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.text import get_text, set_text
from engine.kernel.proc_fdinfo import decode_sdev, fdinfo_fanotify, fdinfo_inotify, read_fdinfo
from engine.kernel.procfs import list_fds
from engine.objects.paths import stat_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.dump_context import DumpContext
    from engine.kernel.proc_fdinfo import FanotifyMark, InotifyWatch
    from engine.task.tree import Task

Message = Any
Inode = tuple[int, int]
"""st_dev and st_ino."""

_WELL_KNOWN = (
    "/etc",
    "/var/spool",
    "/var/log",
    "/lib/udev",
    "/usr/share/dbus-1/system-services",
    "/usr/share/polkit-1/actions",
    "/var/lib/polkit-1/localauthority",
)


class InodeMap:
    """Paths by inode, as far as they had to be looked for."""

    def __init__(self, ctx: DumpContext) -> None:
        self._paths: dict[Inode, str] = {}
        self._rest = _walk([*ctx.opts.irmap_scan_path, *_WELL_KNOWN])
        if ctx.parent is not None:
            self._load(ctx.parent.images)
        with ImageDir(".") as work_dir:
            self._load(work_dir)

    def find(self, inode: Inode) -> str | None:
        """The path of an inode, absolute, None if it was not found."""
        known = self._paths.get(inode)
        if known is not None and _inode_of(known) == inode:
            return known
        for found, path in self._rest:
            self._paths[found] = path
            if found == inode:
                return path
        return None

    def _load(self, directory: ImageDir) -> None:
        try:
            for entry in directory.read("IRMAP_CACHE"):
                self._paths[entry.dev, entry.inode] = get_text(entry.path)
        except CrError as error:
            log.warn(f"{error.message}; paths are looked for anew")


def _walk(places: list[str]) -> Iterator[tuple[Inode, str]]:
    """Everything in some directories, and these themselves. What goes away meanwhile is passed over."""
    waiting = [os.path.realpath(place) for place in reversed(places)]
    for place in places:
        if (inode := _inode_of(os.path.realpath(place))) is not None:
            yield inode, os.path.realpath(place)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    info = entry.stat(follow_symlinks=False)
                    yield (info.st_dev, info.st_ino), entry.path
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue


def _inode_of(path: str) -> Inode | None:
    try:
        info = stat_name(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


# For the cache


def watched_inodes(tasks: list[Task]) -> list[Inode]:
    """What all inotify instances and fanotify groups of some tasks watch."""
    found: dict[Inode, None] = {}
    for task in tasks:
        for fd in list_fds(task.pid):
            link = os.readlink(f"/proc/{task.pid}/fd/{fd}")
            if not link.startswith("anon_inode:"):
                continue
            info = read_fdinfo(task.pid, fd)
            marks: list[InotifyWatch | FanotifyMark] = [*fdinfo_inotify(info), *fdinfo_fanotify(info).marks]
            for mark in marks:
                if mark.ino is not None and mark.sdev is not None:
                    found[decode_sdev(mark.sdev), mark.ino] = None
    return list(found)


def write_cache(inodes: list[Inode], ctx: DumpContext) -> None:
    """irmap-cache in the work directory: the paths of these inodes, for the next who looks."""
    from engine.images.schema import message

    entries = []
    for device, ino in inodes:
        path = ctx.part(InodeMap).find((device, ino))
        if path is None:
            log.warn(f"inode {ino} of device {os.major(device)}:{os.minor(device)}, which is watched, was not found")
            continue
        entry = message("irmap_cache_entry")(dev=device, inode=ino)
        set_text(entry, "path", path)
        entries.append(entry)
    with ImageDir(".") as work_dir:
        work_dir.write("IRMAP_CACHE", entries)
