"""Names that exist for a moment: under them a restore makes deleted files, opens them, and takes the names away.

No name that is in use is touched. Directories that have gone come back for as long as it takes, and those that exist
get their times back.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

from engine import log
from engine.kernel.names import rename_if_free
from engine.objects.paths import open_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

_NAME_MAX = 255
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class TemporaryNames:
    """A context manager. When its block ends, well or badly, no name made through it is left."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._directories: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def directory(self, path: str) -> int:
        """A descriptor of a directory, which is made, with those above it, if there is none.

        Raises NotADirectoryError when one of the names on the way belongs to another file by now.
        """
        if path not in self._directories:
            try:
                fd = open_name(path, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                parent, base = self.directory(os.path.dirname(path)), os.path.basename(path)
                os.mkdir(base, 0o700, dir_fd=parent)
                self._undo.callback(_remove, parent, base)
                fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
            self._undo.callback(os.close, fd)
            before = os.fstat(fd)
            self._undo.callback(os.utime, f"/proc/self/fd/{fd}", ns=(before.st_atime_ns, before.st_mtime_ns))
            self._directories[path] = fd
        return self._directories[path]

    def nearest(self, name: str) -> tuple[int, str, bool]:
        """(directory, base, right): where a name can be made. right: it is the very place, not one above it."""
        path, right = os.path.dirname(name), True
        while True:
            try:
                return self.directory(path), os.path.basename(name), right
            except NotADirectoryError:
                path, right = os.path.dirname(path), False

    def make(self, name: str, suffix: str, create: Callable[[int, str], None], users: Sequence[str]) -> list[int]:
        """Make a file and open it (O_PATH) once for each of its users, by the name that each knows it by.

        name, suffix  create(directory, base) is to make it as name + suffix
        users         former names; a user whose name is taken, or whose directory is, gets the file as name + suffix
        """
        directory, base, _ = self.nearest(name)
        temporary = os.fsdecode(os.fsencode(base)[: _NAME_MAX - len(suffix)]) + suffix
        _remove(directory, temporary)
        create(directory, temporary)
        self._undo.callback(_remove, directory, temporary)
        if stat.S_ISDIR(os.stat(temporary, dir_fd=directory, follow_symlinks=False).st_mode):
            current = self._rename(directory, temporary, base)
            self._undo.callback(_remove, directory, current)
            return [os.open(current, _OPEN, dir_fd=directory) for _ in users]
        return [self.open_as(user, directory, temporary) for user in users]

    @staticmethod
    def _rename(directory: int, temporary: str, base: str) -> str:
        """Directories have one name: give this one its own back if that is free."""
        try:
            rename_if_free(directory, temporary, base)
        except OSError as error:
            log.debug(f"{base}: the deleted directory stays {temporary}: {error.strerror}")
            return temporary
        return base

    def open_as(self, name: str, directory: int, base: str) -> int:
        """Open (O_PATH) a file that is there as directory/base by another name, made for the purpose if it is free."""
        place, new_base, right = self.nearest(name)
        if right:
            try:
                os.link(base, new_base, src_dir_fd=directory, dst_dir_fd=place, follow_symlinks=False)
            except OSError as error:
                log.debug(f"{name}: the deleted file is opened by another name: {error.strerror}")
            else:
                try:
                    return os.open(new_base, _OPEN, dir_fd=place)
                finally:
                    os.unlink(new_base, dir_fd=place)
        return os.open(base, _OPEN, dir_fd=directory)


def _remove(directory: int, name: str) -> None:
    """Take away a name of ours, if it is there."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warn(f"the temporary name {name} can't be removed: {error.strerror}")
