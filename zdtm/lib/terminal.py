"""Pseudo terminals: a master, slaves by name, their settings, and who controls whom."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios

from zdtm.lib.program import Failure, equal

PTMX = "/dev/ptmx"
TIOCGPTN, TIOCSPTLCK, TIOCGSID = 0x80045430, 0x40045431, 0x5429
WINDOW = struct.Struct("4H")
"""struct winsize: rows, columns, and the same in pixels."""
_SECONDS = 10


def new_master() -> tuple[int, str]:
    """A master, unlocked, and the path of its slave."""
    master = os.open(PTMX, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("I", fcntl.ioctl(master, TIOCGPTN, bytes(4)))
    return master, f"/dev/pts/{number}"


def open_slave(path: str, *, control: bool = False) -> int:
    """control: make it the controlling terminal of the caller, who leads a session that has none."""
    slave = os.open(path, os.O_RDWR | os.O_NOCTTY)
    if control:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return slave


def lead_session(path: str) -> int:
    """Have the caller lead a new session that a terminal controls. Returns the slave."""
    os.setsid()
    return open_slave(path, control=True)


def check_no_terminal() -> None:
    """Fail if the caller has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError as refusal:
        equal(refusal.errno, errno.ENXIO, "error of opening /dev/tty")
    else:
        raise Failure("/dev/tty opens for a task without a terminal")


def set_raw(fd: int) -> None:
    """No echo, no lines, no translation."""
    modes = termios.tcgetattr(fd)
    modes[0] = modes[1] = modes[3] = 0
    termios.tcsetattr(fd, termios.TCSANOW, modes)


def session_of(fd: int) -> int | None:
    """The session that a slave controls, None if that is not the caller's."""
    try:
        (sid,) = struct.unpack("i", fcntl.ioctl(fd, TIOCGSID, bytes(4)))
    except OSError:
        return None
    return int(sid)


def is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def unread(fd: int) -> int:
    """Bytes that can be read now, without waiting."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(count)


def read_within(fd: int, size: int) -> bytes:
    """So many bytes, fewer at the end of file or when they do not come in time.

    A kernel thread carries the bytes from one end of a terminal to the other, so they may take a moment.
    """
    data = b""
    while len(data) < size and select.select([fd], [], [], _SECONDS)[0]:
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data
