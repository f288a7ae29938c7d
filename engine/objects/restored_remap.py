"""The way back for files whose names are gone: remap-fpath.img on restore. remap.py says what there is to it.

All ghosts are made at the first need of one, parents before what lay in them: first under temporary names, where they
are opened once for everybody who knew them by some name, so that the kernel's link texts come out as they were. Then
the names go, and only then do the ghosts get their contents. What follows opens them through /proc/self/fd.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text
from engine.objects import ghost, link_remap
from engine.objects.paths import is_tmpfile, open_nearest, problem_of, reopen, stat_name, without_tmpfile
from engine.objects.remap import GHOST, LINKED, PROCFS
from engine.objects.temporary_names import TemporaryNames

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext

Message = Any

_OLD_GHOST = 1 << 31
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)


class RestoredRemaps:
    """What a restore has found in remap-fpath.img.

    dead_pids  pids of dead tasks whose files in /proc are open: while files are opened, a helper must have each
    """

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._ghost_users: dict[int, list[int]] = {}
        self._links: dict[int, int] = {}
        self._remapped: set[int] = set()
        self.dead_pids: set[int] = set()
        self._bases: dict[int, int] = {}
        self._makers: dict[int, int] = {}
        self._made = False
        self._checked = False
        for entry in ctx.images.read("REMAP_FPATH"):
            self._take(entry)

    def _take(self, entry: Message) -> None:
        kind, remap_id = entry.remap_type, entry.remap_id
        if not entry.HasField("remap_type"):
            kind, remap_id = GHOST if remap_id & _OLD_GHOST else LINKED, remap_id & ~_OLD_GHOST
        if kind == PROCFS:
            self.dead_pids.add(remap_id)
            return
        self._remapped.add(entry.orig_id)
        if kind == GHOST:
            self._ghost_users.setdefault(remap_id, []).append(entry.orig_id)
        else:
            self._links[entry.orig_id] = remap_id

    def __contains__(self, file_id: int) -> bool:
        """Whether a file is opened here rather than by its name."""
        return file_id in self._remapped

    def _file(self, file_id: int) -> Message:
        entry = self._ctx.entries.get(file_id)
        if entry is None or not entry.HasField("reg"):
            raise CrError(f"remap-fpath.img speaks of file {file_id}, which is no path in files.img")
        return entry.reg

    def _name(self, file_id: int) -> str:
        return get_text(self._file(file_id).name)

    def links(self) -> dict[str, Message]:
        """The link remaps of the dump: their entries in files.img by name."""
        return {self._name(link_id): self._file(link_id) for link_id in self._links.values()}

    # Before anything exists

    def check(self) -> None:
        """Add to the problems what would stand in the way: names that can't be, images and links that are missing.
        All is checked at the first call."""
        if self._checked:
            return
        self._checked = True
        problems = self._ctx.problems
        for pid in self.dead_pids:
            if os.path.exists(f"/proc/{pid}") or any(task.pid == pid for task in self._ctx.tasks):
                what = f"pid {pid} is in use, but a file below /proc/{pid} of a dead task has to be opened"
                problems.add(what, remedy="end the process that has it", cr_errno=errno.EEXIST)
        for ghost_id, users in self._ghost_users.items():
            with problems:
                ghost.read(self._ctx.images, ghost_id)
            with problems:
                for name in map(self._name, users):
                    self._check_place(name)
        for file_id, link_id in self._links.items():
            with problems:
                self._check_link(file_id, self._name(link_id))

    def _check_link(self, file_id: int, link: str) -> None:
        problems = self._ctx.problems
        self._check_place(self._name(file_id))
        if problem_of(link) or not link_remap.is_link_remap(link):
            problems.add(f"remap-fpath.img: {link!r} is no link of a dump", remedy="the image is damaged")
            return
        try:
            stat_name(link)
        except OSError as error:
            problems.add(f"{link}, the link of a deleted file: {error.strerror}", remedy="put it back")

    def _check_place(self, name: str) -> None:
        problems = self._ctx.problems
        why = problem_of(name)
        if why:
            problems.add(f"deleted file {name!r}: its name {why}", remedy="the image is damaged")
            return
        directory, fd = open_nearest(os.path.dirname(name))
        try:
            if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
                problems.add(
                    f"deleted file {name}: it has to be made in {directory}, which is mounted read-only",
                    remedy="mount it for writing while the restore runs",
                )
        finally:
            os.close(fd)

    # Opening

    def open(self, file_id: int, flags: int) -> int:
        """A new description of a file."""
        if not self._made:
            self._make_all()
        if file_id in self._makers and is_tmpfile(flags):
            return self._makers.pop(file_id)
        if flags & os.O_PATH and flags & os.O_NOFOLLOW:
            return os.dup(self._bases[file_id])
        return reopen(self._bases[file_id], without_tmpfile(flags) & ~os.O_NOFOLLOW)

    def find_ghost(self, device: int, ino: int) -> int | None:
        """A descriptor (O_PATH) of the ghost that had this inode number on this device (as the kernel has it), None if
        there is none. It stays ours."""
        for ghost_id, users in self._ghost_users.items():
            entry = ghost.read(self._ctx.images, ghost_id)
            if (entry.dev, entry.ino) == (device, ino):
                if not self._made:
                    self._make_all()
                return self._bases[users[0]]
        return None

    def _make_all(self) -> None:
        self._made = True
        self._ctx.at_end(self._close)
        ghosts = sorted(self._ghost_users, key=lambda ghost_id: self._name(self._ghost_users[ghost_id][0]).count("/"))
        with TemporaryNames() as names:
            for ghost_id in ghosts:
                self._make_ghost(names, ghost_id, self._ghost_users[ghost_id])
            for file_id, link_id in self._links.items():
                self._open_link(names, file_id, self._name(link_id))
        for link in {self._name(link_id) for link_id in self._links.values()}:
            self._ctx.after_commit(partial(link_remap.remove, link))
        for ghost_id, users in self._ghost_users.items():
            ghost.complete(self._ctx.images, ghost_id, self._bases[users[0]])

    def _make_ghost(self, names: TemporaryNames, ghost_id: int, users: list[int]) -> None:
        entry = ghost.read(self._ctx.images, ghost_id)
        name = self._name(users[0])
        try:
            if stat.S_ISREG(entry.mode) and self._make_unnamed(names, name, users):
                return
            suffix = f".cr.{ghost_id:x}.ghost"
            opened = names.make(
                name, suffix, lambda directory, base: ghost.create(entry, directory, base), list(map(self._name, users))
            )
        except OSError as error:
            raise CrError(f"{name}: this deleted file can't be made: {error.strerror}") from error
        self._keep(users, opened)

    def _make_unnamed(self, names: TemporaryNames, name: str, users: list[int]) -> bool:
        """A file that O_TMPFILE made may still be given its first name (linkat(2)), so it is made in that way again.

        The description of the one that made it shows the flag; False when none does or the file system can't.
        """
        maker = next((user for user in users if is_tmpfile(self._file(user).flags)), None)
        directory, _, right = names.nearest(name)
        if maker is None or not right:
            return False
        try:
            fd = os.open(".", self._file(maker).flags | os.O_CLOEXEC, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno in _NO_TMPFILE:
                return False
            raise
        self._makers[maker] = fd
        for user in users:
            self._bases[user] = reopen(fd, os.O_PATH)
        return True

    def _open_link(self, names: TemporaryNames, file_id: int, link: str) -> None:
        directory = names.directory(os.path.dirname(link))
        self._keep([file_id], [names.open_as(self._name(file_id), directory, os.path.basename(link))])

    def _keep(self, users: list[int], opened: list[int]) -> None:
        for user, fd in zip(users, opened, strict=True):
            self._bases[user] = fd

    def _close(self) -> None:
        for fd in [*self._bases.values(), *self._makers.values()]:
            os.close(fd)
        self._bases.clear()
        self._makers.clear()
