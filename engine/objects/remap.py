"""Files whose name leads elsewhere or nowhere: how a dump finds that out, and what remap-fpath.img says about them.

Each open or mapped file has a name, the kernel's link text. Either it leads to the file; or the name is gone and then

    GHOST    so is every other name: the file goes into the images (objects/ghost.py)
    LINKED   there are other names: a hard link is made for the restore (objects/link_remap.py)
    PROCFS   it was that of a file of a dead task in /proc: the restore lets a helper have that pid for a while

or the name leads to another file, because a mount hides the right one or it is of another mount namespace. Such a file
can't be opened again and is refused. The way back is in restored_remap.py.
"""

from __future__ import annotations

import os
import stat
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.kernel.names import file_system_type, mount_id
from engine.kernel.proc_mountinfo import mount_lines, parse_mount
from engine.objects import ghost, link_remap
from engine.objects.paths import DELETED, open_nearest, stat_name

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.kernel.proc_mountinfo import Mount

Message = Any

LINKED, GHOST, PROCFS = 0, 1, 2
_PROC_SUPER_MAGIC = 0x9FA0


class Target(NamedTuple):
    """A file that is to get a name.

    fd, stat   a descriptor of the engine, O_PATH will do, and its fstat(2)
    link       text of the link in /proc that leads to it
    mnt_id     of the mount it was opened on
    """

    fd: int
    stat: os.stat_result
    link: str
    mnt_id: int


class Place(NamedTuple):
    """Where a file is to be found again. remap: None when `name` leads to it. pid: of the dead task of PROCFS."""

    name: str
    remap: int | None = None
    pid: int = 0


class Unreachable(Exception):
    """The text says why a file has no name to be found by."""


def leads_to(name: str, info: os.stat_result) -> bool:
    """Whether a name leads to a file."""
    try:
        found = stat_name(name)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (info.st_dev, info.st_ino)


class DumpedRemaps:
    """What a dump has to note in remap-fpath.img."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._places: dict[tuple[int, int, str], Place] = {}
        self._ghosts: dict[tuple[int, int], int] = {}
        self._links: dict[tuple[int, int], int] = {}
        self._dead_pids: set[int] = set()
        self._entries: list[Message] = []
        self._parsed: dict[int, Mount | None] = {}

    @cached_property
    def _mounts(self) -> dict[int, bytes]:
        return mount_lines(os.getpid())

    def _mount(self, mnt_id: int) -> Mount | None:
        """A mount of the engine's mount namespace; None for one that has no place in its tree of mounts."""
        if mnt_id not in self._parsed:
            line = self._mounts.get(mnt_id)
            self._parsed[mnt_id] = parse_mount(line) if line else None
        return self._parsed[mnt_id]

    def file_system(self, mnt_id: int) -> str:
        """The type of a mount's file system: "ext4"; empty for a mount that has no place in the tree of mounts."""
        mount = self._mount(mnt_id)
        return mount.fstype if mount else ""

    def place(self, target: Target) -> Place:
        """Where a file is to be found. Raises Unreachable."""
        key = (target.stat.st_dev, target.stat.st_ino, target.link)
        if key not in self._places:
            self._places[key] = self._find(target)
        return self._places[key]

    def _find(self, target: Target) -> Place:
        # " (deleted)" may be the kernel's remark or the end of a name: only the file itself can tell.
        if target.stat.st_nlink and leads_to(target.link, target.stat):
            return Place(target.link)
        mount = self._mount(target.mnt_id)
        if mount is None:
            raise Unreachable("it lies on a mount that is not in the engine's mount namespace")
        if file_system_type(target.fd) == _PROC_SUPER_MAGIC:
            return self._find_in_proc(target, mount.mountpoint)
        if not target.link.endswith(DELETED):
            raise Unreachable("another mount hides it, or its file system does not show it")
        name = target.link.removesuffix(DELETED)
        if target.stat.st_nlink and leads_to(name, target.stat):
            return Place(name)
        self._check_not_hidden(name, target.mnt_id)
        return Place(name, LINKED if target.stat.st_nlink and not stat.S_ISDIR(target.stat.st_mode) else GHOST)

    def _find_in_proc(self, target: Target, mountpoint: str) -> Place:
        name = target.link.removesuffix(DELETED)
        inside = name.removeprefix(mountpoint.rstrip("/") + "/")
        pid = inside.partition("/")[0]
        if not pid.isdecimal() or not target.link.startswith(mountpoint):
            raise Unreachable("another mount hides it, or it is gone from /proc")
        if any(task.pid == int(pid) for task in self._ctx.tasks):
            raise Unreachable(f"it is of a dead task whose pid {pid} another task of the tree has got")
        return Place(name, PROCFS, int(pid))

    def _check_not_hidden(self, name: str, mnt_id: int) -> None:
        """The directory of a lost name, or what is left above it, must be on the file's own mount."""
        _, fd = open_nearest(os.path.dirname(name))
        try:
            if mount_id(fd) != mnt_id:
                raise Unreachable("it has been deleted, and another mount hides the directory it was in")
        finally:
            os.close(fd)

    def problem(self, target: Target) -> tuple[str, str] | None:
        """What stands against dumping a file, and the remedy."""
        try:
            place = self.place(target)
        except Unreachable as why:
            return f"{target.link}: {why}", "close it, or unmount what hides it"
        if place.remap == LINKED and not self._ctx.opts.link_remap:
            return (
                f"{place.name}: this name is deleted, but the file has others",
                "--link-remap makes a hard link for the restore",
            )
        if place.remap == GHOST and (target.stat.st_dev, target.stat.st_ino) not in self._ghosts:
            size, limit = ghost.data_size(target.fd, target.stat, self._ctx), self._ctx.opts.ghost_limit
            if size > limit:
                return f"{place.name}: a deleted file with {size} bytes of data", f"--ghost-limit is {limit}, raise it"
        return None

    def note(self, file_id: int, target: Target, place: Place) -> None:
        """Store what the restore of a described file needs beside its entry."""
        key = (target.stat.st_dev, target.stat.st_ino)
        if place.remap == GHOST:
            if key not in self._ghosts:
                self._ghosts[key] = len(self._ghosts) + 1
                ghost.dump(target.fd, target.stat, self._ghosts[key], self._ctx)
            self._add(file_id, self._ghosts[key], GHOST)
        elif place.remap == LINKED:
            if key not in self._links:
                self._links[key] = self._link(target, place)
            self._add(file_id, self._links[key], LINKED)
        elif place.remap == PROCFS and place.pid not in self._dead_pids:
            self._dead_pids.add(place.pid)
            self._add(file_id, place.pid, PROCFS)

    def _link(self, target: Target, place: Place) -> int:
        """The id of a new entry in files.img that names a new hard link."""
        from engine.images.schema import message
        from engine.images.text import set_text
        from engine.objects.fown import clear
        from engine.objects.regular import REGULAR

        file_id, name = link_remap.make(target.fd, place.name, self._ctx)
        entry = message("reg_file_entry")(
            id=file_id, flags=0, pos=0, link_inode=target.stat.st_ino, link_names=target.stat.st_nlink
        )
        clear(entry.fown)
        set_text(entry, "name", name)
        self._ctx.add_entry(REGULAR, entry)
        return file_id

    def _add(self, file_id: int, remap_id: int, remap: int) -> None:
        from engine.images.schema import message

        self._entries.append(
            message("remap_file_path_entry")(orig_id=file_id, remap_id=remap_id, remap_type=remap)
        )

    def write(self) -> None:
        """remap-fpath.img."""
        self._ctx.images.write("REMAP_FPATH", self._entries)
