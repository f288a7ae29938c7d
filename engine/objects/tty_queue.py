"""What is queued in a pseudo terminal: bytes that were typed and not yet read from the slave, output for the master.

There is no peeking: who wants to know the bytes has to read them, and to put them back as they were.

The slave's side has a shape. In canonical mode its bytes are lines, each of which one read returns, and at the end
perhaps a line that is still being typed and that nobody can read. A change of that mode makes one line of all
(drivers/tty/n_tty.c, n_tty_set_termios), so lines are read and typed in canonical mode. They are typed with all that
would change them switched off; what has a meaning there all the same, like a newline that is no end of a line, is
quoted by the LNEXT character. A line that was ended by the end-of-file character is one without an end of its own.

The master's side is plain bytes. The slave writes them, with output processing switched off.
"""

from __future__ import annotations

import os
import select
import termios
import time
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import CrError
from engine.kernel import terminal
from engine.kernel.terminal import Modes

if TYPE_CHECKING:
    from collections.abc import Iterator

BUFFER = 4095
"""Bytes that a line discipline holds. What is beyond them waits unprocessed (N_TTY_BUF_SIZE)."""
RUNNING, STOPPED, HELD = 0, 1, 2
"""Output goes on; was stopped by the STOP character, which START revokes; or by tcflow(3), which it does not."""
_EXTPROC = 0o200000
_PIECE, _CHUNKS, _LAST_PIECE = 1024, 16384, 1792
_LOOK_MS = 10
_ARRIVAL_SECONDS = 5.0
_CC = 19
_NEWLINE = 0x0A


class Queued(NamedTuple):
    """lines    in canonical mode, in order
    rest     the begun line; all bytes in any other mode
    output   for the master
    flow     RUNNING, STOPPED or HELD
    """

    lines: list[bytes]
    rest: bytes
    output: bytes
    flow: int = RUNNING

    def __bool__(self) -> bool:
        return bool(self.lines or self.rest or self.output or self.flow)


def is_canonical(modes: Modes) -> bool:
    """Whether input comes in lines."""
    return bool(modes.lflag & termios.ICANON) and not modes.lflag & _EXTPROC


def _plain(modes: Modes, local: int, characters: dict[int, int] | None = None) -> Modes:
    """Modes that let everything pass as it is. local: c_lflag; characters: the special ones, by their index."""
    cc = bytearray(_CC)
    cc[termios.VMIN] = 1
    for index, character in (characters or {}).items():
        cc[index] = character
    return modes._replace(iflag=0, oflag=0, lflag=local, cc=bytes(cc))


# Reading


def take(master: int, slave: int, modes: Modes) -> Queued:
    """Read everything. The terminal is left in modes of ours, output running; put() is to follow.

    slave  a description of our own, with O_NONBLOCK
    modes  as they are
    """
    lines = []
    canonical = is_canonical(modes)
    while canonical and terminal.events(slave, select.POLLIN) & select.POLLIN:
        lines.append(os.read(slave, 1 << 16))
    rest = b"" if canonical else _read_slave(slave)
    output = _read_master(master)
    flow = _let_run(slave, modes)
    if canonical:
        rest = _read_slave(slave)
    return Queued(lines, rest, output + _read_master(master), flow)


def _let_run(slave: int, modes: Modes) -> int:
    """Switch to plain modes, without lines, and start the output; how it was stopped. There is room for output, so a
    slave that can't be written to is stopped. Switching IXON off starts one that was by the STOP character."""
    running = terminal.events(slave, select.POLLOUT) & select.POLLOUT
    local = 0 if is_canonical(modes) else modes.lflag & (termios.ICANON | _EXTPROC)
    terminal.set_modes(slave, _plain(modes, local))
    if running:
        return RUNNING
    if terminal.events(slave, select.POLLOUT) & select.POLLOUT:
        return STOPPED
    terminal.hold_output(slave, False)
    return HELD


def _read_slave(slave: int) -> bytes:
    """All that a slave in any but canonical mode has."""
    data = b""
    try:
        while chunk := os.read(slave, 1 << 16):
            data += chunk
    except BlockingIOError:
        pass
    return data


def _read_master(master: int) -> bytes:
    data = b""
    while terminal.events(master, select.POLLIN) & select.POLLIN and (count := terminal.readable(master)):
        data += os.read(master, count)
    return data


# Writing


def put(master: int, slave: int, modes: Modes, queued: Queued, patience: int = -1) -> None:
    """Fill the queues of a terminal, which are empty, and give it its modes.

    patience  how long to wait for room, in ms; -1: for ever
    """
    local = modes.lflag & (termios.ICANON | _EXTPROC)
    terminal.set_modes(slave, _plain(modes, local))
    _write(slave, master, queued.output, patience)
    if is_canonical(modes):
        _type(master, slave, modes, queued, patience)
    else:
        _write(master, slave, queued.rest, patience)
    terminal.set_modes(slave, modes)
    if queued.flow == HELD:
        terminal.hold_output(slave, True)
    elif queued.flow == STOPPED and modes.iflag & termios.IXON:
        terminal.type_byte(slave, modes.cc[termios.VSTOP])


def _type(master: int, slave: int, modes: Modes, queued: Queued, patience: int) -> None:
    """Type lines, as far as the line discipline holds them; what is beyond comes from the master."""
    quote, end = _free_characters(modes)
    ends = _ends(modes)
    characters = {termios.VLNEXT: quote, termios.VEOF: end}
    characters |= {index: modes.cc[index] for index in (termios.VEOL, termios.VEOL2)}
    terminal.set_modes(slave, _plain(modes, termios.ICANON | termios.IEXTEN, characters))
    room = BUFFER
    beyond = b""
    for text, is_line in [*((line, True) for line in queued.lines), (queued.rest, False)]:
        room -= len(text) + is_line
        if room < 0:
            beyond += text
            continue
        has_end = is_line and text[-1:] != b"" and text[-1] in ends
        for byte in text[: len(text) - has_end]:
            if byte in (quote, end, _NEWLINE, *modes.cc[termios.VEOL : termios.VEOL + 1], modes.cc[termios.VEOL2]):
                terminal.type_byte(slave, quote)
            terminal.type_byte(slave, byte)
        if is_line:
            terminal.type_byte(slave, text[-1] if has_end else end)
    _write_piece(master, beyond, patience)


def _ends(modes: Modes) -> set[int]:
    """The characters that end a line and are part of it. One that is 0 is switched off."""
    eol2 = modes.cc[termios.VEOL2] if modes.lflag & termios.IEXTEN else 0
    return {_NEWLINE, modes.cc[termios.VEOL], eol2} - {0}


def _free_characters(modes: Modes) -> tuple[int, int]:
    """Two characters that end no line, for LNEXT and for the end of file."""
    free = [c for c in range(1, 9) if c not in (modes.cc[termios.VEOL], modes.cc[termios.VEOL2])]
    return free[0], free[1]


def _write(fd: int, other: int, data: bytes, patience: int) -> None:
    """Write to one end what `other`, the other end, is to read. Neither is in canonical mode.

    Beyond what the line discipline holds the kernel makes chunks, each with room for twice a write, until these count
    8 KiB, and the last of them may be larger (drivers/tty/tty_buffer.c). The sizes here use that to the last byte, so
    whatever was in fits in again.
    """
    start = 0
    for size in _sizes(len(data)):
        _write_piece(fd, data[start : start + size], patience)
        start += size
        if start == BUFFER or start == len(data):
            _await_arrival(other, min(start, BUFFER))


def _sizes(count: int) -> Iterator[int]:
    """Of the writes: first what goes to the line discipline."""
    done = 0
    while done < count:
        size = min(_PIECE, BUFFER - done) if done < BUFFER else _PIECE if done < BUFFER + _CHUNKS else _LAST_PIECE
        size = min(size, count - done)
        yield size
        done += size


def _write_piece(fd: int, data: bytes, patience: int) -> None:
    """Nobody wakes a writer when data moves on inside of the kernel: poll(2) has to be asked again."""
    deadline = time.monotonic() + patience / 1000
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            if terminal.events(fd, select.POLLOUT, _LOOK_MS):
                continue
            if 0 <= patience and time.monotonic() > deadline:
                raise CrError("what was queued in a terminal does not fit in again") from None


def _await_arrival(end: int, count: int) -> None:
    """A thread of the kernel carries bytes from one end to the other. They must be there before modes change."""
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while terminal.readable(end) < count:
        if time.monotonic() > deadline:
            raise CrError("bytes written to a terminal do not arrive")
        os.sched_yield()
