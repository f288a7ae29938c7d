"""Terminals: their device numbers, and the ioctls that say and set how one stands (ioctl_tty(2), pty(7))."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from typing import NamedTuple

TIOCSCTTY, TIOCNOTTY, TIOCSPGRP = 0x540E, 0x5422, 0x5410
"""What only a task itself can do about its controlling terminal."""
_TIOCSTI, _TCXONC = 0x5412, 0x540A
_TIOCGSID, _TIOCGPGRP, _TIOCGETD, _TIOCGDEV, _FIONREAD = 0x5429, 0x540F, 0x5424, 0x80045432, 0x541B
_TIOCGPTN, _TIOCGPTPEER = 0x80045430, 0x5441
_TIOCSPTLCK, _TIOCGPTLCK = 0x40045431, 0x80045439
_TIOCPKT, _TIOCGPKT = 0x5420, 0x80045438
_TIOCEXCL, _TIOCNXCL, _TIOCGEXCL = 0x540C, 0x540D, 0x80045440
_TIOCGWINSZ, _TIOCSWINSZ = 0x5413, 0x5414
_TCGETS2, _TCSETS2 = 0x802C542A, 0x402C542B
_TIOCGLCKTRMIOS, _TIOCSLCKTRMIOS = 0x5456, 0x5457
_TCOOFF, _TCOON = 0, 1
_N_TTY = 0
_TERMIOS2 = struct.Struct("<4IB19s2I")
_LOCKED = struct.Struct("<4IB19s")
_WINSIZE = struct.Struct("<4H")

CURRENT, CONSOLE, PTMX = os.makedev(5, 0), os.makedev(5, 1), os.makedev(5, 2)
_PTS_MAJOR, _TTY_MAJOR, _VIRTUAL_TERMINALS = 136, 4, 64
_SERIAL_MAJORS = (188, 204)


class Modes(NamedTuple):
    """struct termios2. cc: 19 special characters. The speeds mean something where c_cflag has BOTHER."""

    iflag: int
    oflag: int
    cflag: int
    lflag: int
    line: int
    cc: bytes
    ispeed: int = 0
    ospeed: int = 0


class WindowSize(NamedTuple):
    """struct winsize: characters and pixels."""

    rows: int
    columns: int
    width: int
    height: int


def is_terminal(device: int) -> bool:
    """Whether a character device is one of the terminals that dumps know."""
    return device in (CURRENT, CONSOLE, PTMX) or is_slave(device) or is_virtual(device) or is_serial(device)


def is_slave(device: int) -> bool:
    """Of a pseudo terminal."""
    return os.major(device) == _PTS_MAJOR


def is_virtual(device: int) -> bool:
    """A virtual terminal of the machine's own screen."""
    return os.major(device) == _TTY_MAJOR and os.minor(device) < _VIRTUAL_TERMINALS


def is_serial(device: int) -> bool:
    return os.major(device) in _SERIAL_MAJORS or (
        os.major(device) == _TTY_MAJOR and os.minor(device) >= _VIRTUAL_TERMINALS
    )


def device_of_stat(tty_nr: int) -> int:
    """The device number behind tty_nr in /proc/PID/stat, in the form of os.makedev(); 0 for no terminal."""
    number = tty_nr & 0xFFFFFFFF
    return os.makedev(number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00)


def _number(fd: int, request: int) -> int:
    (value,) = struct.unpack("i", fcntl.ioctl(fd, request, bytes(4)))
    return int(value)


def device_behind(fd: int) -> int:
    """The terminal that /dev/tty or /dev/console stands for; of a pseudo terminal it is the slave. Raises OSError (EIO)
    for one that is hung up."""
    return device_of_stat(_number(fd, _TIOCGDEV))


def is_hung_up(fd: int) -> bool:
    """Whether a slave's master is closed. Such a descriptor answers no ioctl any more."""
    try:
        device_behind(fd)
    except OSError:
        return True
    return False


def has_lines(fd: int) -> bool:
    """Whether the line discipline is the usual one."""
    return _number(fd, _TIOCGETD) == _N_TTY


def session_by_master(master: int) -> tuple[int, int]:
    """(session, foreground group) of a pseudo terminal, (0, 0) where it controls none."""
    try:
        return _number(master, _TIOCGSID), _number(master, _TIOCGPGRP)
    except OSError:
        return 0, 0


def readable(fd: int) -> int:
    """Bytes that a read gets; without a partial line in canonical mode."""
    return _number(fd, _FIONREAD)


def events(fd: int, asked: int, timeout: int = 0) -> int:
    """poll(2) of one descriptor. timeout: ms. Data that is still on its way to this end arrives before, unless some is
    there already (drivers/tty/n_tty.c, n_tty_poll)."""
    poll = select.poll()
    poll.register(fd, asked)
    return dict(poll.poll(timeout)).get(fd, 0)


# Pseudo terminals


def pty_index(master: int) -> int:
    """Its number in /dev/pts."""
    return _number(master, _TIOCGPTN)


def open_peer(master: int, flags: int) -> int:
    """A new description of the slave, whatever names there are (TIOCGPTPEER). Close-on-exec."""
    return fcntl.ioctl(master, _TIOCGPTPEER, flags | os.O_NOCTTY | os.O_CLOEXEC)


def is_locked(master: int) -> bool:
    """Whether the slave can't be opened."""
    return bool(_number(master, _TIOCGPTLCK))


def set_locked(master: int, locked: bool) -> None:
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", locked))


def in_packet_mode(master: int) -> bool:
    return bool(_number(master, _TIOCGPKT))


def set_packet_mode(master: int, on: bool) -> None:
    fcntl.ioctl(master, _TIOCPKT, struct.pack("i", on))


# All terminals


def is_exclusive(fd: int) -> bool:
    return bool(_number(fd, _TIOCGEXCL))


def set_exclusive(fd: int, on: bool) -> None:
    fcntl.ioctl(fd, _TIOCEXCL if on else _TIOCNXCL)


def window_size(fd: int) -> WindowSize:
    return WindowSize(*_WINSIZE.unpack(fcntl.ioctl(fd, _TIOCGWINSZ, bytes(_WINSIZE.size))))


def set_window_size(fd: int, size: WindowSize) -> None:
    fcntl.ioctl(fd, _TIOCSWINSZ, _WINSIZE.pack(*size))


def modes(fd: int) -> Modes:
    """Of a master: those of its slave."""
    return Modes(*_TERMIOS2.unpack(fcntl.ioctl(fd, _TCGETS2, bytes(_TERMIOS2.size))))


def set_modes(fd: int, wanted: Modes) -> None:
    """At once, without touching what is queued."""
    fcntl.ioctl(fd, _TCSETS2, _TERMIOS2.pack(*wanted))


def locked_modes(fd: int) -> Modes:
    """The bits and characters that nobody may change without CAP_SYS_ADMIN."""
    return Modes(*_LOCKED.unpack(fcntl.ioctl(fd, _TIOCGLCKTRMIOS, bytes(_LOCKED.size))))


def set_locked_modes(fd: int, wanted: Modes) -> None:
    fcntl.ioctl(fd, _TIOCSLCKTRMIOS, _LOCKED.pack(*wanted[:6]))


def type_byte(fd: int, byte: int) -> None:
    """Have the line discipline take a byte as if it had been typed, before this returns (TIOCSTI)."""
    fcntl.ioctl(fd, _TIOCSTI, bytes([byte]))


def hold_output(fd: int, held: bool) -> None:
    """tcflow(3): stop output, or let it go on."""
    fcntl.ioctl(fd, _TCXONC, _TCOOFF if held else _TCOON)
