"""userfaultfd(2): faults of a mapping that somebody else handles, and watching writes.

Two uses. Asynchronous write protection (Linux 6.7): a mapping that is registered for it can have pages write-protected
by PAGEMAP_SCAN. The first write to one is no fault that anybody has to handle: the kernel lifts the protection, and
that it is gone tells of the write.

Missing pages: who touches one that is not there waits until the one who has the descriptor has filled it. What happens
to the address space meanwhile (fork, mremap, madvise, munmap) is told as events, and the task waits until each has been
read. While one is on its way nothing can be filled (EAGAIN), so that nobody fills a page of what has just changed.

Either ends when the last descriptor of the userfaultfd is closed: then every page counts as written, and one that is
missing is zero.

Source: userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst, fs/userfaultfd.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple

USER_MODE_ONLY = 1
"""userfaultfd() flag: what an unprivileged task needs. Faults of the kernel itself are none here, either."""

MODE_MISSING, MODE_WP = 1, 2
FEATURE_WP_ASYNC = 1 << 15
FEATURE_THREAD_ID = 1 << 8
FEATURE_EVENTS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6
"""Fork, remap, remove, unmap. Asking for the first takes CAP_SYS_PTRACE."""

PAGEFAULT, FORK, REMAP, REMOVE, UNMAP = range(0x12, 0x17)

_API = 0xAA
_UFFDIO_API = 0xC018AA3F  # _IOWR(0xAA, 0x3F, struct uffdio_api)
_UFFDIO_REGISTER = 0xC020AA00  # _IOWR(0xAA, 0, struct uffdio_register)
_UFFDIO_UNREGISTER = 0x8010AA01  # _IOR(0xAA, 1, struct uffdio_range)
_UFFDIO_WAKE = 0x8010AA02  # _IOR(0xAA, 2, struct uffdio_range)
_UFFDIO_COPY = 0xC028AA03  # _IOWR(0xAA, 3, struct uffdio_copy)
_UFFDIO_ZEROPAGE = 0xC020AA04  # _IOWR(0xAA, 4, struct uffdio_zeropage)
_LINK = "anon_inode:[userfaultfd]"
_NOT_WATCHABLE = (errno.EINVAL, errno.ENOMEM)
_MESSAGE = struct.Struct("=B7x24s")
_WORDS = struct.Struct("=QQQ")
_COPY = struct.Struct("=QQQQq")
_MESSAGES_AT_ONCE = 64
_UINT32 = 0xFFFFFFFF


class Message(NamedTuple):
    """What was read. The words by kind:

    PAGEFAULT       flags, address of the page, thread (FEATURE_THREAD_ID, else 0)
    FORK            descriptor of the new userfaultfd, ours now
    REMAP           from, to, length
    REMOVE, UNMAP   start, end
    """

    kind: int
    words: tuple[int, int, int]


def open_api(fd: int, features: int = FEATURE_WP_ASYNC) -> None:
    """Ready a new userfaultfd. Raises OSError: EINVAL when the kernel lacks a feature."""
    fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("=QQQ", _API, features, 0)))


class Taken(Exception):
    """Another userfaultfd has the mapping."""


def register(fd: int, start: int, end: int) -> bool:
    """Register a mapping for write protection. False when it is of a kind that can't be watched, or gone. Raises Taken,
    or OSError for anything else."""
    try:
        _register(fd, start, end, MODE_WP)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Taken from error
        if error.errno not in _NOT_WATCHABLE:
            raise
        return False
    return True


def register_missing(fd: int, start: int, end: int) -> None:
    """Have faults of missing pages told. Raises OSError."""
    _register(fd, start, end, MODE_MISSING)


def unregister(fd: int, start: int, end: int) -> None:
    """Have nothing more told of mappings. Raises OSError."""
    fcntl.ioctl(fd, _UFFDIO_UNREGISTER, bytearray(struct.pack("=QQ", start, end - start)))


def _register(fd: int, start: int, end: int, mode: int) -> None:
    fcntl.ioctl(fd, _UFFDIO_REGISTER, bytearray(struct.pack("=QQQQ", start, end - start, mode, 0)))


def read(fd: int) -> list[Message]:
    """The messages that wait, [] when there are none. Raises OSError: EMFILE when there is no room for the descriptor
    of a fork, which stays to be read."""
    try:
        data = os.read(fd, _MESSAGES_AT_ONCE * _MESSAGE.size)
    except BlockingIOError:
        return []
    messages = []
    for kind, body in _MESSAGE.iter_unpack(data):
        first, second, third = _WORDS.unpack(body)
        if kind == FORK:
            first &= _UINT32
        elif kind == PAGEFAULT:
            third &= _UINT32
        messages.append(Message(kind, (first, second, third)))
    return messages


def copy(fd: int, to: int, source: int, size: int) -> int:
    """Fill missing pages from `source`, an address in our own memory, and wake who waits for them.

    Returns how many bytes, which may be less than `size` but not 0. Raises OSError: EEXIST the first page is there,
    ENOENT the range is not within one registered mapping, ESRCH the address space is gone, EAGAIN it is changing.
    """
    request = bytearray(_COPY.pack(to, source, size, 0, 0))
    try:
        fcntl.ioctl(fd, _UFFDIO_COPY, request)
    except OSError:
        done: int = _COPY.unpack(request)[4]
        if done <= 0:
            raise
        return done
    return size


def zero(fd: int, page: int, size: int) -> None:
    """Fill missing pages with zeros and wake who waits for them. Raises OSError as copy()."""
    fcntl.ioctl(fd, _UFFDIO_ZEROPAGE, bytearray(struct.pack("=QQQq", page, size, 0, 0)))


def wake(fd: int, start: int, size: int) -> None:
    """Have who waits for pages look again."""
    fcntl.ioctl(fd, _UFFDIO_WAKE, bytearray(struct.pack("=QQ", start, size)))


def is_one(fd: int) -> bool:
    """Whether a descriptor is of a userfaultfd."""
    return os.readlink(f"/proc/self/fd/{fd}") == _LINK
