"""The names of files in images: absolute, as seen from the root of the mount namespace, without a symlink in them.

They come out of the kernel's link texts on dump. On restore they come from an image, so they are looked up in a way
that cannot leave the root, and one that no link text could have been is refused.
"""

from __future__ import annotations

import errno
import os
from functools import cache

from engine.kernel.names import open_in_root

DELETED = " (deleted)"
_PATH_MAX = 4096


def root() -> int:
    """The engine's own "/", open for as long as the engine runs. A fork may be elsewhere, and opens its own."""
    return _root_of(os.getpid())


@cache
def _root_of(_: int) -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def problem_of(name: str) -> str | None:
    """What makes a name one that can't be in an image; None for a good one."""
    if not name.startswith("/"):
        return "is not absolute"
    if "\0" in name or len(os.fsencode(name)) >= _PATH_MAX:
        return "is no possible file name"
    if {"..", "."} & set(name.split("/")):
        return "has . or .. in it"
    return None


def open_name(name: str, flags: int) -> int:
    """Open what a name stands for; close-on-exec."""
    return open_in_root(root(), name, flags)


def open_nearest(directory: str) -> tuple[str, int]:
    """A directory, or the nearest one above it that is there: its name and an O_PATH descriptor. Raises OSError when it
    is not for want of the name that a directory can't be opened."""
    while True:
        try:
            return directory, open_name(directory, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if directory == "/" or error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            directory = os.path.dirname(directory)


def stat_name(name: str) -> os.stat_result:
    """lstat(2) of a name."""
    fd = open_name(name, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def reopen(fd: int, flags: int) -> int:
    """A new description of the file behind one of our descriptors, by the magic link in /proc: names don't matter."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def is_tmpfile(flags: int) -> bool:
    """Whether a description shows that it was opened with O_TMPFILE, by which its file was made."""
    return flags & os.O_TMPFILE == os.O_TMPFILE


def without_tmpfile(flags: int) -> int:
    """The flags by which an existing file can be opened. O_TMPFILE has O_DIRECTORY in it."""
    return flags & ~os.O_TMPFILE if is_tmpfile(flags) else flags
