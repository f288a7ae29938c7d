"""inotify(7) and fanotify(7): their system calls."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from engine.kernel.libc import NR, syscall

FAN_MARK_ADD, FAN_MARK_MOUNT = 0x01, 0x10
FAN_MARK_IGNORED_MASK, FAN_MARK_IGNORED_SURV_MODIFY = 0x20, 0x40
FAN_MARK_EVICTABLE, FAN_MARK_IGNORE = 0x200, 0x400

_INOTIFY_IOC_SETNEXTWD = 0x40044900  # _IOW('I', 0, __s32)
_AT_FDCWD = -100
_FAN_EVENT = struct.Struct("=IBBHQii")
_BUFFER_SIZE = 1 << 16


def inotify_init() -> int:
    """A new instance, close-on-exec."""
    return syscall(NR["inotify_init1"], os.O_CLOEXEC)


def inotify_add_watch(fd: int, name: str, mask: int, wd: int) -> None:
    """Watch what a name leads to, under this watch descriptor (CONFIG_CHECKPOINT_RESTORE, Linux 4.18)."""
    set_next_wd(fd, wd)
    got = syscall(NR["inotify_add_watch"], fd, os.fsencode(name) + b"\0", mask)
    if got != wd:
        raise OSError(0, f"inotify_add_watch gave watch descriptor {got} instead of {wd}")


def inotify_set_mask(fd: int, name: str, mask: int) -> None:
    """Have the watch on what a name leads to, which there is already, tell other events than so far."""
    syscall(NR["inotify_add_watch"], fd, os.fsencode(name) + b"\0", mask)


def inotify_rm_watch(fd: int, wd: int) -> None:
    """Take a watch away. That it is gone is an event, IN_IGNORED."""
    syscall(NR["inotify_rm_watch"], fd, wd)


def set_next_wd(fd: int, wd: int) -> None:
    """The watch descriptor that the next new watch gets, unless it is taken."""
    fcntl.ioctl(fd, _INOTIFY_IOC_SETNEXTWD, wd)


def fanotify_init(flags: int, event_flags: int) -> int:
    """A new group, close-on-exec. FAN_CLOEXEC in its flags is not asked for: the group would show it ever after."""
    fd = syscall(NR["fanotify_init"], flags, event_flags)
    os.set_inheritable(fd, False)
    return fd


def fanotify_mark(fd: int, flags: int, mask: int, name: str) -> None:
    """Change the mark of what a name leads to."""
    syscall(NR["fanotify_mark"], fd, flags, mask, _AT_FDCWD, os.fsencode(name) + b"\0")


def bytes_of_events(fd: int) -> int:
    """How much there is to read."""
    count: int = struct.unpack("=i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
    return count


def drop_fanotify_events(fd: int) -> None:
    """Read what there is to read, and close the files that come with it."""
    while bytes_of_events(fd):
        data = os.read(fd, _BUFFER_SIZE)
        while data:
            length, _, _, _, _, file, _ = _FAN_EVENT.unpack_from(data)
            if file >= 0:
                os.close(file)
            data = data[length:]
