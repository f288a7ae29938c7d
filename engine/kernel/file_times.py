"""utimensat(2) for one of the two times of a file alone, which os.utime() can't."""

from __future__ import annotations

import os
import struct

from engine.kernel.libc import NR, syscall

_AT_FDCWD = -100
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_TIMES = struct.Struct("=qqqq")


def set_one_time(name: str, *, access: bool) -> None:
    """Set the time of the last access, or else of the last modification, to now."""
    times = _TIMES.pack(0, _UTIME_NOW if access else _UTIME_OMIT, 0, _UTIME_OMIT if access else _UTIME_NOW)
    syscall(NR["utimensat"], _AT_FDCWD, os.fsencode(name) + b"\0", times, 0)
