"""inotify(7), which Python does not have."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import termios
from typing import NamedTuple

from zdtm.lib.libc import call

IN_MODIFY, IN_ATTRIB, IN_OPEN, IN_MOVED_FROM, IN_MOVED_TO = 0x2, 0x4, 0x20, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF = 0x100, 0x200, 0x400
IN_ALL_EVENTS = 0xFFF
_EVENT = struct.Struct("=iIII")


class Event(NamedTuple):
    """struct inotify_event, without the cookie."""

    wd: int
    mask: int
    name: str


def init(flags: int = 0) -> int:
    return call("inotify_init1", flags)


def watch(fd: int, name: str, mask: int) -> int:
    """The watch descriptor."""
    return call("inotify_add_watch", fd, os.fsencode(name), ctypes.c_uint32(mask))


def unwatch(fd: int, wd: int) -> None:
    call("inotify_rm_watch", fd, wd)


def waiting(fd: int) -> int:
    """Bytes that can be read."""
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
    return count


def events(fd: int) -> list[Event]:
    """All that wait."""
    return [event for event, _ in with_cookies(fd)]


def with_cookies(fd: int) -> list[tuple[Event, int]]:
    """All that wait, with the number that the halves of a rename have in common."""
    found = []
    data = b""
    while data or waiting(fd):
        data = data or os.read(fd, 1 << 16)
        wd, mask, cookie, length = _EVENT.unpack_from(data)
        name = os.fsdecode(data[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))
        found.append((Event(wd, mask, name), cookie))
        data = data[_EVENT.size + length :]
    return found
