"""Who gets SIGIO: the owner and the signal of an open file description (fcntl(2), F_SETOWN and F_SETSIG).

The kernel keeps the user ids of whoever called F_SETOWN and compares them with the receiver's when a signal is due
(fs/fcntl.c, sigio_perm). So the owner is set under these ids, which only takes effect in the calling thread: the
system call, unlike the C library's function, changes no other.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.kernel.libc import NR, syscall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_F_SETSIG, _F_GETSIG = 10, 11
_F_SETOWN_EX, _F_GETOWN_EX, _F_GETOWNER_UIDS = 15, 16, 17
_F_OWNER_TYPES = {0: "thread", 1: "process", 2: "process group"}
_OWNER = struct.Struct("<ii")
_UIDS = struct.Struct("<II")
_KEEP = 0xFFFFFFFF


def clear(entry: Message) -> None:
    """Make a fown_entry say that there is no owner."""
    entry.uid = entry.euid = entry.signum = entry.pid_type = entry.pid = 0


def dump(file: OpenFile, entry: Message) -> None:
    """Fill a fown_entry."""
    clear(entry)
    if file.flags & os.O_PATH:
        return
    kind, pid = _OWNER.unpack(fcntl.fcntl(file.copy, _F_GETOWN_EX, bytes(_OWNER.size)))
    entry.signum = fcntl.fcntl(file.copy, _F_GETSIG)
    entry.uid, entry.euid = _UIDS.unpack(fcntl.fcntl(file.copy, _F_GETOWNER_UIDS, bytes(_UIDS.size)))
    if pid:
        entry.pid_type, entry.pid = kind, pid


def restore(fd: int, entry: Message, ctx: RestoreContext) -> None:
    """Set signal and owner of a description once the restore is complete: nothing done to files before raises SIGIO,
    and an owner that is a thread exists by then. fd stays open until the restore ends."""
    if entry.pid_type not in _F_OWNER_TYPES:
        what = f"files.img: a file's owner is of type {entry.pid_type}, which does not exist"
        raise CrError(f"{what}; the image is damaged")
    if entry.signum:
        fcntl.fcntl(fd, _F_SETSIG, entry.signum)
    if entry.pid or entry.uid or entry.euid:
        ctx.on_success(partial(_set_owner, fd, entry))


def _set_owner(fd: int, entry: Message) -> None:
    """An owner that is not there any more would not get a signal either: then there is none."""
    with _as_user(entry.uid, entry.euid):
        try:
            fcntl.fcntl(fd, _F_SETOWN_EX, _OWNER.pack(entry.pid_type, entry.pid))
        except ProcessLookupError:
            log.warn(f"the {_F_OWNER_TYPES[entry.pid_type]} {entry.pid}, which got SIGIO for a file, is gone")


@contextmanager
def _as_user(uid: int, euid: int) -> Iterator[None]:
    """Run a with block with these user ids. The saved id stays, so there is a way back."""
    mine = os.getuid(), os.geteuid()
    if mine == (uid, euid):
        yield
        return
    syscall(NR["setresuid"], uid, euid, _KEEP)
    try:
        yield
    finally:
        syscall(NR["setresuid"], *mine, _KEEP)
