"""Filling and emptying pipes and fifos: without ever blocking, or a large record at a time."""

from __future__ import annotations

import array
import fcntl
import os
import termios

WORD = 8
"""Bytes of a numbered word"""


def numbered(size: int, start: int = 0) -> bytes:
    """Text in which every 8 bytes are different: lost, doubled and swapped pieces show. size: a multiple of 8."""
    return b"".join(b"%07d " % word for word in range(start, start + size // WORD))


def reopen(fd: int, flags: int) -> int:
    """A new description of the same pipe, opened through /proc."""
    return os.open(f"/proc/self/fd/{fd}", flags)


def unread(fd: int) -> int:
    """Bytes in the pipe, asked of its read end."""
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]


def fill(fd: int) -> bytes:
    """Write until the pipe takes no more. fd: any end of it. Gives what was written."""
    writer = reopen(fd, os.O_WRONLY | os.O_NONBLOCK)
    contents = numbered(capacity(fd))
    if os.write(writer, contents) != len(contents):
        raise AssertionError("the pipe was not empty")
    os.close(writer)
    return contents


def drain(fd: int) -> bytes:
    """Read all that is in the pipe, and no more. fd: its read end."""
    pieces = []
    while size := unread(fd):
        pieces.append(os.read(fd, size))
    return b"".join(pieces)


def read_all(fd: int, size: int) -> bytes:
    """Read this much, in as many pieces as it takes; less only at the end of the file."""
    pieces = []
    while size and (piece := os.read(fd, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, in as many pieces as it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def capacity(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def is_full(fd: int) -> bool:
    """A nonblocking writer could not write a byte. fd: any end."""
    writer = reopen(fd, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"!")
    except BlockingIOError:
        return True
    finally:
        os.close(writer)
    return False
