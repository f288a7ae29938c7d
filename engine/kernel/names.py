"""Names of files: the system calls for them that Python's os module lacks.

All take names as os.fsdecode makes them and raise OSError as os.open() does, with the name in it.
"""

from __future__ import annotations

import os
import struct

from engine.kernel.libc import NR, syscall

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
AT_EMPTY_PATH = 0x1000
_RENAME_NOREPLACE = 1
_O_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_HOW = struct.Struct("<QQQ")
_ATTEMPTS = 100
_STATFS_SIZE = 120
_STATX_MNT_ID, _STATX_SIZE = 0x1000, 256
_STATX = struct.Struct("<I140xQ")
"""stx_mask and stx_mnt_id."""


def open_in_root(root: int, name: str, flags: int) -> int:
    """Open a name with the directory `root` as its "/": neither ".." nor a symlink nor /proc/PID/fd leads out of it.

    O_CLOEXEC is added. Of the flags, what openat2(2) takes together with O_PATH is kept.

    The kernel can't tell that a ".." does not lead out while anybody anywhere renames or mounts something, and says
    EAGAIN then: fs/namei.c, handle_dots. O_NONBLOCK gets that for a file with a lease, too, and so there is an end to
    trying again.
    """
    if flags & os.O_PATH:
        flags &= _O_PATH_FLAGS
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    call = NR["openat2"], root, _c_string(name), how, _OPEN_HOW.size
    for _ in range(_ATTEMPTS):
        try:
            return _named(name, *call)
        except BlockingIOError:
            continue
    return _named(name, *call)


def link_descriptor(fd: int, directory: int, name: str) -> None:
    """Make a hard link to the file behind a descriptor (linkat(2), AT_EMPTY_PATH; needs CAP_DAC_READ_SEARCH).

    Raises FileNotFoundError when the file has no link left, unless it was made by O_TMPFILE.
    """
    _named(name, NR["linkat"], fd, b"\0", directory, _c_string(name), AT_EMPTY_PATH)


def rename_if_free(directory: int, old: str, new: str) -> None:
    """Rename within a directory. Raises FileExistsError when the new name is taken."""
    _named(new, NR["renameat2"], directory, _c_string(old), directory, _c_string(new), _RENAME_NOREPLACE)


def file_system_type(fd: int) -> int:
    """f_type of statfs(2): the magic number of the file system; works for O_PATH descriptors."""
    import ctypes

    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    syscall(NR["fstatfs"], fd, buffer)
    kind: int = struct.unpack_from("<q", buffer.raw)[0]
    return kind


def mount_id(fd: int) -> int:
    """The mount that a descriptor was opened on, as in mountinfo; O_PATH will do. statx(2), Linux 5.8, else fdinfo."""
    import ctypes

    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    syscall(NR["statx"], fd, b"\0", AT_EMPTY_PATH, _STATX_MNT_ID, buffer)
    known, mnt_id = _STATX.unpack_from(buffer)
    if known & _STATX_MNT_ID:
        return int(mnt_id)
    from engine.kernel.proc_fdinfo import read_fdinfo

    return read_fdinfo(os.getpid(), fd).mnt_id


def _c_string(name: str) -> bytes:
    return os.fsencode(name) + b"\0"


def _named(name: str, *call: int | bytes) -> int:
    try:
        return syscall(*call)  # type: ignore[arg-type]
    except OSError as error:
        code = error.errno or 0
        raise OSError(code, os.strerror(code), name) from None
