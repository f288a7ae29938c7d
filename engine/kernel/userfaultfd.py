"""userfaultfd(2) for watching writes: asynchronous write protection (Linux 6.7).

A mapping that is registered for it can have pages write-protected by PAGEMAP_SCAN. The first write to one is no fault
that anybody has to handle: the kernel lifts the protection, and that it is gone tells of the write. All of it ends when
the last descriptor of the userfaultfd is closed, after which every page counts as written.

Source: ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst, mm/userfaultfd.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

USER_MODE_ONLY = 1
"""userfaultfd() flag: what an unprivileged task needs. Faults of the kernel itself are none here, either."""

_API = 0xAA
_UFFDIO_API = 0xC018AA3F  # _IOWR(0xAA, 0x3F, struct uffdio_api)
_UFFDIO_REGISTER = 0xC020AA00  # _IOWR(0xAA, 0, struct uffdio_register)
_FEATURE_WP_ASYNC = 1 << 15
_MODE_WP = 2
_LINK = "anon_inode:[userfaultfd]"
_NOT_WATCHABLE = (errno.EINVAL, errno.EBUSY, errno.ENOMEM)


def open_api(fd: int) -> None:
    """Ready a new userfaultfd for asynchronous write protection. Raises OSError."""
    fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("=QQQ", _API, _FEATURE_WP_ASYNC, 0)))


def register(fd: int, start: int, end: int) -> bool:
    """Register a mapping. False when it is of a kind that can't be watched, another userfaultfd has it, or it is gone.
    Raises OSError for anything else."""
    try:
        fcntl.ioctl(fd, _UFFDIO_REGISTER, bytearray(struct.pack("=QQQQ", start, end - start, _MODE_WP, 0)))
    except OSError as error:
        if error.errno not in _NOT_WATCHABLE:
            raise
        return False
    return True


def is_one(fd: int) -> bool:
    """Whether a descriptor is of a userfaultfd."""
    return os.readlink(f"/proc/self/fd/{fd}") == _LINK
