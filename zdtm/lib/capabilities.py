"""The capability sets of the calling thread, as bit sets: capget(2), capset(2) and /proc."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from zdtm.lib.libc import call
from zdtm.lib.proc import status

VERSION_3 = 0x20080522


class Sets(NamedTuple):
    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int


def get_sets() -> Sets:
    fields = status("thread-self")
    return Sets(*(int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")))


def set_sets(*, effective: int | None = None, permitted: int | None = None, inheritable: int | None = None) -> None:
    """Those that are not given stay."""
    now = get_sets()
    wanted = [
        now.effective if effective is None else effective,
        now.permitted if permitted is None else permitted,
        now.inheritable if inheritable is None else inheritable,
    ]
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    words = [bits >> shift & 0xFFFFFFFF for shift in (0, 32) for bits in wanted]
    call("capset", header, (ctypes.c_uint32 * 6)(*words))
