"""The flags of a description that F_SETFL can change: what eventfd(2), socket(2) and their like leave to fcntl(2)."""

from __future__ import annotations

import fcntl
import os

from engine.kernel.libc import MACHINE

O_LARGEFILE = 0o400000 if MACHINE == "aarch64" else 0o100000
"""As the kernel shows it for everything that was opened by a path, and not for what pipe(2) and the like returned."""
O_ASYNC = 0o20000
SETTABLE = os.O_APPEND | O_ASYNC | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME


def set_flags(fd: int, flags: int) -> None:
    """Give a new description the flags of an image, as far as they can be changed."""
    if flags & SETTABLE:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & SETTABLE)
