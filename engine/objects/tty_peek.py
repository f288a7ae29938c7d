"""Reading the queues of a live terminal, so that the tasks find them as they were.

The bytes are out of the queues for some microseconds. Nobody who kills the engine may make that for ever, so it is done
by a process of its own, the reader, which has left the engine's session and process group, heeds no signal, and ends by
itself when everything is back. The engine waits for it; should the engine die, that makes no difference.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Any, NamedTuple, NoReturn

from engine.errors import CrError
from engine.kernel import terminal
from engine.objects import tty_queue
from engine.objects.tty_queue import Queued

Message = Any

_NOTHING_LOCKED = terminal.Modes(0, 0, 0, 0, 0, bytes(19))
_PATIENCE_MS = 5000


class Pair(NamedTuple):
    """master   a descriptor of ours of the tasks' description
    typed_id    number of the slave in images
    output_id   number of the master
    """

    master: int
    typed_id: int
    output_id: int


def may_have_data(master: int, slave: int | None) -> bool:
    """Whether there can be anything in the queues: a line that is being typed shows itself to nobody.

    slave  a descriptor of ours, None where no task has it open
    """
    if slave is None or tty_queue.is_canonical(terminal.modes(master)):
        return True
    for fd in (master, slave):
        terminal.events(fd, select.POLLIN)  # waits for what is on its way
        if terminal.readable(fd):
            return True
    return not terminal.events(slave, select.POLLOUT) & select.POLLOUT


def peek(pairs: list[Pair]) -> bytes:
    """What is in the queues: tty_data_entry messages, framed as in tty-data.img."""
    from engine.images.schema import message

    message("tty_data_entry")()
    results, report = os.pipe()
    reader = os.fork()
    if not reader:
        _be_reader(pairs, report)
    os.close(report)
    data = b""
    try:
        while terminal.events(results, select.POLLIN, _PATIENCE_MS):
            chunk = os.read(results, 1 << 16)
            data += chunk
            if not chunk:
                break
        else:
            raise CrError("what was queued in a terminal does not fit in again at once (have somebody read it)")
    finally:
        os.close(results)
    if os.waitpid(reader, 0)[1]:
        raise CrError(f"what is queued in terminals can't be read: {os.fsdecode(data)}")
    return data


def _be_reader(pairs: list[Pair], report: int) -> NoReturn:
    """The other process. What it has to say, data or why there is none, goes to `report`."""
    status = 1
    try:
        os.setsid()
        _leave_output()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        data = b"".join(_entries(pair, _peek_pair(pair.master)) for pair in pairs)
        with open(report, "wb") as file:
            file.write(data)
        status = 0
    except BaseException as error:
        os.write(report, str(error).encode())
    finally:
        os._exit(status)


def _leave_output() -> None:
    """Nobody who reads what the engine says shall wait for us."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)


def _peek_pair(master: int) -> Queued:
    """The queues of one terminal, which is left as it was. A slave that no task has open was open once."""
    locked = terminal.is_locked(master)
    terminal.set_locked(master, False)
    slave = terminal.open_peer(master, os.O_RDWR | os.O_NONBLOCK)
    terminal.set_locked(master, locked)
    packets = terminal.in_packet_mode(master)
    modes, lock = terminal.modes(slave), terminal.locked_modes(slave)
    terminal.set_packet_mode(master, False)
    terminal.set_locked_modes(slave, _NOTHING_LOCKED)
    queued = Queued([], b"", b"")
    try:
        queued = tty_queue.take(master, slave, modes)
    finally:
        tty_queue.put(master, slave, modes, queued)
        terminal.set_locked_modes(slave, lock)
        if packets:
            terminal.set_packet_mode(master, True)
        os.close(slave)
    return queued


def _entries(pair: Pair, queued: Queued) -> bytes:
    """Their messages, framed."""
    from engine.images.schema import message

    entries = []
    if queued.lines or queued.rest or queued.flow:
        typed = message("tty_data_entry")(tty_id=pair.typed_id, data=b"".join(queued.lines) + queued.rest)
        typed.lines.extend(map(len, queued.lines))
        if queued.flow:
            typed.flow = queued.flow
        entries.append(typed)
    if queued.output:
        entries.append(message("tty_data_entry")(tty_id=pair.output_id, data=queued.output))
    framed = [entry.SerializeToString() for entry in entries]
    return b"".join(len(data).to_bytes(4, "little") + data for data in framed)
