"""A file system that no mount namespace shows: fsmount(2) without move_mount(2)."""

from __future__ import annotations

import os

from engine.kernel.libc import NR, syscall

_FSOPEN_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1


def detached_tmpfs() -> int:
    """A descriptor of the root of a new, empty tmpfs. It lives until the last file in it is closed."""
    context = syscall(NR["fsopen"], b"tmpfs\0", _FSOPEN_CLOEXEC)
    try:
        syscall(NR["fsconfig"], context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return syscall(NR["fsmount"], context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)
