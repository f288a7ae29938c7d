"""How a terminal is set, as tty_info_entry has it.

The image's c_cc has 19 numbers. The 19 special characters stand in the first five of them, four in each, lowest byte
first.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from engine.kernel import terminal
from engine.kernel.terminal import Modes, WindowSize
from engine.objects.tty_kinds import CONSOLE, VT

if TYPE_CHECKING:
    from engine.objects.base import OpenFile

Message = Any

_CC, _IN_WORD = 19, 4
_CBAUD, _INPUT_SHIFT, _BOTHER = 0o010017, 16, 0o010000


def describe(entry: Message, fd: int) -> None:
    """Fill in what a terminal that is not hung up says. fd: any description of it. The size of the machine's own screen
    is none of the tree's."""
    _put_modes(entry.termios, terminal.modes(fd))
    _put_modes(entry.termios_locked, terminal.locked_modes(fd))
    if entry.type not in (CONSOLE, VT):
        window = entry.winsize
        window.ws_row, window.ws_col, window.ws_xpixel, window.ws_ypixel = terminal.window_size(fd)


def describe_file(entry: Message, file: OpenFile) -> None:
    """Fill in what the inode says. Its mode stands with its path."""
    entry.rdev, entry.dev = file.stat.st_rdev, file.stat.st_dev
    entry.uid, entry.gid = file.stat.st_uid, file.stat.st_gid


def _put_modes(entry: Message, modes: Modes) -> None:
    entry.c_iflag, entry.c_oflag, entry.c_cflag, entry.c_lflag = modes[:4]
    entry.c_line = modes.line
    special = _has_special_speed(modes.cflag)
    entry.c_ispeed, entry.c_ospeed = (modes.ispeed, modes.ospeed) if special else (0, 0)
    padded = modes.cc.ljust(_CC * _IN_WORD, b"\0")
    entry.c_cc.extend(int.from_bytes(padded[at : at + _IN_WORD], "little") for at in range(0, len(padded), _IN_WORD))


def _has_special_speed(cflag: int) -> bool:
    """Whether a speed is a number of its own, rather than one of the usual (BOTHER)."""
    return _BOTHER in (cflag & _CBAUD, cflag >> _INPUT_SHIFT & _CBAUD)


def modes_of(entry: Message) -> Modes:
    """Modes of a termios_entry."""
    cc = b"".join(word.to_bytes(_IN_WORD, "little") for word in entry.c_cc)[:_CC].ljust(_CC, b"\0")
    flags = entry.c_iflag, entry.c_oflag, entry.c_cflag, entry.c_lflag
    return Modes(*flags, entry.c_line, cc, entry.c_ispeed, entry.c_ospeed)


def restore_window(entry: Message, fd: int) -> None:
    """Give a new terminal the size that it had."""
    if entry.HasField("winsize"):
        size = entry.winsize
        terminal.set_window_size(fd, WindowSize(size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel))


def restore_owner(entry: Message, path: Message, slave: int) -> None:
    """Give the inode of a new slave its owner and mode. path: its reg_file_entry."""
    if entry.HasField("uid") and entry.HasField("gid"):
        os.fchown(slave, entry.uid, entry.gid)
    if path.HasField("mode"):
        os.fchmod(slave, stat.S_IMODE(path.mode))
