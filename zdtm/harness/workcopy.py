"""A copy of an item's work directory, to turn it back to the moment of a dump.

A snapshot's original goes on and changes its files; its image fits only to what they were. Inodes are kept where the
file still exists under any name: a restore may identify files by device and inode number (inotify watches, locks).
What did not change is not touched, so its change time stays too.

A file with a lease is neither copied nor put back: to open it would break the lease.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Entry:
    """One name of the directory as it was."""

    status: os.stat_result
    target: str = ""
    """of a symbolic link"""


class WorkCopy:
    """Copies `roots` (files or directories) into `store`, an empty directory on the same file system."""

    def __init__(self, roots: list[Path], store: Path) -> None:
        self._roots = roots
        self._store = store
        self._limbo = store / "limbo"
        self._entries: dict[Path, _Entry] = {}
        self._leased = _leased_inodes()
        store.mkdir()
        for path in _walk(roots):
            status = path.lstat()
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            self._entries[path] = _Entry(status, target)
            if self._has_copy(status) and not self._data(status).exists():
                _copy_data(path, self._data(status))

    def put_back(self) -> None:
        """Make the roots what they were."""
        self._limbo.mkdir()
        changed = {path: entry for path, entry in self._entries.items() if not self._is_unchanged(path, entry)}
        self._clear(changed)
        for path, entry in changed.items():
            self._recreate(path, entry)
        for path in reversed(changed):
            _set_attributes(path, changed[path].status)
        shutil.rmtree(self._limbo)

    def _data(self, status: os.stat_result) -> Path:
        """Where the contents of a regular file are kept: once per inode, whatever its names."""
        return self._store / f"{status.st_dev:x}-{status.st_ino}"

    def _has_copy(self, status: os.stat_result) -> bool:
        return stat.S_ISREG(status.st_mode) and status.st_ino not in self._leased

    def _is_unchanged(self, path: Path, entry: _Entry) -> bool:
        """A page written through a mapping may not show in any time stamp yet, so contents are compared."""
        if not os.path.lexists(path):
            return False
        now, before = path.lstat(), entry.status
        same = (now.st_ino, now.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        return same and (not self._has_copy(before) or filecmp.cmp(path, self._data(before), shallow=False))

    def _clear(self, changed: dict[Path, _Entry]) -> None:
        """Take away what changed and what is new, but not directories that were there; inodes survive in limbo."""
        known = {entry.status.st_ino for entry in changed.values()}
        for path in reversed(list(_walk(self._roots))):
            if path in self._entries and path not in changed:
                continue
            status = path.lstat()
            before = self._entries.get(path)
            if stat.S_ISDIR(status.st_mode):
                if before is None or before.status.st_ino != status.st_ino:
                    path.rmdir()
                continue
            waiting = self._limbo / str(status.st_ino)
            if status.st_ino in known and not os.path.lexists(waiting):
                path.rename(waiting)
            else:
                path.unlink()

    def _recreate(self, path: Path, entry: _Entry) -> None:
        mode = entry.status.st_mode
        waiting = self._limbo / str(entry.status.st_ino)
        if stat.S_ISDIR(mode):
            path.mkdir(exist_ok=True)
        elif os.path.lexists(waiting) and stat.S_IFMT(waiting.lstat().st_mode) == stat.S_IFMT(mode):
            os.link(waiting, path, follow_symlinks=False)
            if self._has_copy(entry.status):
                _copy_data(self._data(entry.status), path)
        elif stat.S_ISREG(mode):
            _copy_data(self._data(entry.status), path)
            # Further names of the same file are links to this one.
            os.link(path, waiting)
        elif stat.S_ISLNK(mode):
            path.symlink_to(entry.target)
        else:
            os.mknod(path, mode, entry.status.st_rdev)


def _leased_inodes() -> set[int]:
    """Lines of /proc/locks read "1: LEASE ACTIVE READ 2 fe:00:2150865 0 EOF"."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(words[5].split(":")[2]) for words in lines if words[1] == "LEASE"}


def _walk(roots: list[Path]) -> list[Path]:
    """All names, directories before what is in them; other file systems mounted below are left alone."""
    found = []
    queue = [root for root in roots if os.path.lexists(root)]
    while queue:
        path = queue.pop()
        found.append(path)
        if path.is_dir() and not path.is_symlink() and not (path.is_mount() and path not in roots):
            queue.extend(path.iterdir())
    return found


def _copy_data(source: Path, target: Path) -> None:
    """Contents only, into the existing inode if there is one; holes stay holes."""
    with open(source, "rb", buffering=0) as old, open(target, "r+b" if target.exists() else "xb", buffering=0) as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(0)
        new.truncate(size)
        position = 0
        while position < size:
            try:
                position = os.lseek(old.fileno(), position, os.SEEK_DATA)
            except OSError as problem:
                if problem.errno == errno.ENXIO:
                    break  # a hole until the end
                raise
            end = os.lseek(old.fileno(), position, os.SEEK_HOLE)
            while position < end:
                data = os.pread(old.fileno(), min(end - position, 1 << 20), position)
                position += os.pwrite(new.fileno(), data, position)


def _set_attributes(path: Path, status: os.stat_result) -> None:
    os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
