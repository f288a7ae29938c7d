"""The events that wait in an inotify instance. Reading takes them away, so they are looked at where the kernel keeps
them (kernel_memory.py): fs/notify/inotify/inotify_user.c, get_one_event().
"""

from __future__ import annotations

from typing import NamedTuple

from engine.kernel.btf import btf
from engine.kernel.kernel_memory import kernel_memory

IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
_SHOWN = 0xFFF | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ISDIR
HEADER_SIZE = 16
"""Of a struct inotify_event without its name."""
_MOST = 1 << 20
_NAME_MAX = 255


class InotifyEvent(NamedTuple):
    """What read(2) gives, without the padding of the name. wd is -1 for an overflow."""

    wd: int
    mask: int
    cookie: int
    name: bytes

    @property
    def kind(self) -> int:
        """What has happened, be it to a directory or not."""
        return self.mask & ~IN_ISDIR

    @property
    def rename(self) -> tuple[int, int]:
        """What both halves of a rename have in common."""
        return self.cookie, self.mask & IN_ISDIR

    @property
    def size(self) -> int:
        """Bytes that read(2) gives for it: a name is padded to the size of the rest, with one NUL at least."""
        return HEADER_SIZE + (-(-(len(self.name) + 1) // HEADER_SIZE) * HEADER_SIZE if self.name else 0)


def inotify_queue(fd: int) -> list[InotifyEvent]:
    """The events of an instance, oldest first. Raises OSError when the kernel can't be looked into."""
    memory = kernel_memory()
    group = memory.field(memory.file(fd), "file", "private_data")
    head = group + btf().offset("fsnotify_group", "notification_list")
    event = memory.word(head)
    found: list[InotifyEvent] = []
    while event != head:
        if len(found) >= _MOST:
            raise OSError(0, "an inotify queue has no end")
        found.append(_event(event - btf().offset("fsnotify_event", "list")))
        event = memory.word(event)
    return found


def _event(at: int) -> InotifyEvent:
    memory, place = kernel_memory(), btf().offset
    mask, wd, cookie, length = (
        memory.number(at + place("inotify_event_info", name)) for name in ("mask", "wd", "sync_cookie", "name_len")
    )
    if length > _NAME_MAX:
        raise OSError(0, f"an inotify event with a name of {length} bytes")
    name = memory.read(at + place("inotify_event_info", "name"), length) if length else b""
    return InotifyEvent(wd - (1 << 32) if wd >> 31 else wd, mask & _SHOWN, cookie, name)
