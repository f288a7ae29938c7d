"""Pages from a page server, asked for with GET. Answers come in the order of the questions.

A reply is for every address space that waits for that part of the images: a parent and the children it has had since.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import CrError
from engine.images.runs import PAGE, PRESENT
from engine.lazy.pending import Ranges
from engine.transport.protocol import SIZE, STATUS, Command, PageMessage

if TYPE_CHECKING:
    from engine.transport.channel import Channel

AHEAD = 128 << 10
"""Bytes of a question that is asked ahead of time."""
_DEPTH = 8
"""How many of those are on their way: enough to keep a link busy, few enough for a fault not to wait long."""
_MOST = 4 << 20


class Reply(NamedTuple):
    """Pages of a task's images from start to end. source: where they are in our memory until the next reply."""

    pid: int
    start: int
    end: int
    source: int


class RemotePages:
    """The client's side of a connection to a page server.

    is_over  whether it knows that nothing more is needed
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._buffer = bytearray(_MOST)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self._asked: dict[int, Ranges] = {}
        self._questions: deque[tuple[int, int, int]] = deque()
        self._takes_leave = False
        self.is_over = False

    @property
    def waits(self) -> bool:
        """Whether there is an answer to come."""
        return bool(self._questions) or self._takes_leave and not self.is_over

    @property
    def is_busy(self) -> bool:
        """Whether nothing should be asked for that nobody waits for."""
        return len(self._questions) >= _DEPTH

    def unasked(self, pid: int, start: int, end: int) -> list[tuple[int, int]]:
        """The parts that nobody has asked for yet, ascending."""
        found = []
        asked = self._asked.get(pid, Ranges())
        while start < end:
            low, high = asked.next(start) or (end, end)
            if start < low:
                found.append((start, min(low, end)))
            start = high
        return found

    def ask(self, pid: int, start: int, end: int) -> None:
        """Ask for pages of which there are some, at most 4 MiB, unless that has been done. Raises CrError."""
        for low, high in self.unasked(pid, start, end):
            message = PageMessage(Command.GET, nr_pages=(high - low) // PAGE, vaddr=low, destination=pid)
            self.channel.send(message.encode())
            self._asked.setdefault(pid, Ranges()).add(low, high)
            self._questions.append((pid, low, high))

    def receive(self) -> Reply | None:
        """The next answer, which has begun to come; None for the last one. Raises CrError."""
        if not self._questions:
            self._hear_farewell()
            return None
        pid, start, end = self._questions.popleft()
        message = PageMessage.decode(self.channel.receive(SIZE))
        stop = start + message.nr_pages * PAGE
        asked_for = (message.command, message.destination, message.vaddr) == (Command.ADD_F, pid, start)
        if not asked_for or not message.flags & PRESENT or not start < stop <= end:
            raise CrError(f"{self.channel.peer} gives an answer that nobody has asked for")
        self._receive_pages(stop - start)
        self._asked[pid].cut(start, end)
        return Reply(pid, start, stop, self._address)

    def _receive_pages(self, size: int) -> None:
        with memoryview(self._buffer) as view:
            done = 0
            while done < size:
                part = self.channel.receive_into(view[done:size])
                if not part:
                    raise CrError(f"{self.channel.peer} has ended the connection, {size - done} bytes too early")
                done += part

    def take_leave(self, farewell: Command) -> None:
        """Say that nothing more is needed, once: whoever has the pages may end what they are of."""
        if not self._takes_leave:
            self._takes_leave = True
            self.channel.send(PageMessage(farewell).encode())

    def _hear_farewell(self) -> None:
        (status,) = STATUS.unpack(self.channel.receive(STATUS.size))
        if status:
            raise CrError(f"{self.channel.peer} could not bring its work to an end (status {status}); its log says why")
        self.is_over = True
