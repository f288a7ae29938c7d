"""open_by_handle_at(2): files by what the file system knows them by, which is what fdinfo tells of watched ones."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from engine.kernel.libc import NR, syscall
from engine.kernel.own_fs import with_own_fs

if TYPE_CHECKING:
    from engine.kernel.proc_fdinfo import FileHandle

_AT_FDCWD = -100
MAX_HANDLE_SIZE = 128


def open_handle(place: int, handle: FileHandle) -> int:
    """A descriptor (O_PATH, close-on-exec) of a file. place: an O_PATH descriptor of a directory of its file system.

    Nothing is opened that inotify(7) would tell: open_by_handle_at does not take the place as it is, and takes the
    current directory instead. Raises OSError, with ESTALE when there is no such file any more.
    """

    def work() -> int:
        os.fchdir(place)
        argument = struct.pack("=Ii", len(handle.handle), handle.type) + handle.handle
        return syscall(NR["open_by_handle_at"], _AT_FDCWD, argument, os.O_PATH | os.O_CLOEXEC)

    return with_own_fs(work)
