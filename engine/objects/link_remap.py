"""Link remaps: files that were opened by a name which is gone, while the file itself has other names.

Which ones, nobody knows: an inode does not say. So a dump makes one more, a hard link "link_remap.ID" in the directory
of the name that is gone, and a second entry in files.img names it. That changes the file system, which the user allows
by --link-remap. The link stays, since only it leads to the file on restore; a dump that fails takes it away again, and
a restore that succeeds does.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

from engine import log
from engine.errors import CrError
from engine.kernel.names import link_descriptor
from engine.objects.paths import open_name

if TYPE_CHECKING:
    from engine.dump_context import DumpContext

PREFIX = "link_remap."
_NO_LINK_HERE = (errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.EROFS)


def make(fd: int, lost_name: str, ctx: DumpContext) -> tuple[int, str]:
    """Link a descriptor's file beside its lost name. Returns (id for files.img, name).

    Where that directory is gone too, the link goes to the nearest one above it that is on the same mount.
    """
    directory = os.path.dirname(lost_name)
    while True:
        try:
            return _make_in(directory, fd, ctx)
        except OSError as error:
            if error.errno not in _NO_LINK_HERE or directory == "/":
                raise CrError(
                    f"{lost_name}: no hard link can be made to this deleted file ({error.strerror}); "
                    "close it, or give it a name again, before the dump"
                ) from error
            directory = os.path.dirname(directory)


def _make_in(directory: str, fd: int, ctx: DumpContext) -> tuple[int, str]:
    """Try numbers until one is free: a link of an earlier dump may still wait for its restore."""
    parent = open_name(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        before = os.fstat(parent)
        while True:
            file_id = ctx.new_file_id()
            name = os.path.join(directory, f"{PREFIX}{file_id}")
            try:
                link_descriptor(fd, parent, f"{PREFIX}{file_id}")
            except FileExistsError:
                continue
            ctx.on_failure(partial(remove, name))
            break
        os.utime(f"/proc/self/fd/{parent}", ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(parent)
    return file_id, name


def is_link_remap(name: str) -> bool:
    """Whether a restore may remove a name from disk: only one that a dump has made."""
    base = os.path.basename(name)
    return base.startswith(PREFIX) and base.removeprefix(PREFIX).isdecimal()


def remove(name: str) -> None:
    """Take a link away and leave its directory with the times it had."""
    try:
        parent = open_name(os.path.dirname(name), os.O_PATH | os.O_DIRECTORY)
        try:
            before = os.fstat(parent)
            os.unlink(os.path.basename(name), dir_fd=parent)
            os.utime(f"/proc/self/fd/{parent}", ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(parent)
    except OSError as error:
        log.warn(f"{name} is not needed any more but can't be removed: {error.strerror}")


