"""The flags of a description that F_SETFL can change: what eventfd(2), socket(2) and their like leave to fcntl(2)."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.objects.base import OpenFile

O_ASYNC = 0o20000
SETTABLE = os.O_APPEND | O_ASYNC | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME


def flags_of(file: OpenFile) -> int:
    """What images keep as `flags`: everything but close-on-exec, which belongs to the descriptor."""
    return file.fdinfo.flags & ~os.O_CLOEXEC


def set_flags(fd: int, flags: int) -> None:
    """Give a new description the flags of an image, as far as they can be changed."""
    if flags & SETTABLE:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & SETTABLE)
