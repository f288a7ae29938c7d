"""The dump's side of a page server: page maps and pages go there and not into the images directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.images.runs import PAGE, PARENT, PRESENT
from engine.transport.protocol import HAS_PARENT, STATUS, Command, PageMessage, destination_of
from engine.transport.sink import PageSinks
from engine.transport.stream import StreamSink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.transport.channel import Channel


class PageServerSinks(PageSinks):
    """All page maps go over one connection. The server throws them away if it ends before finish().

    farewell  the message that ends it: FORCE_CLOSE over a socket that was given (--ps-socket)
    """

    one_at_a_time = True

    def __init__(self, channel: Channel, farewell: Command = Command.CLOSE) -> None:
        self._channel = channel
        self._farewell = farewell

    def open(self, kind: str, id: int) -> PageServerSink:
        return PageServerSink(self._channel, kind, id)

    def has_parent(self, kind: str, id: int) -> bool:
        """Whether the parent images, which are on the server's side, have this page map."""
        self._channel.send(PageMessage(Command.PARENT, destination=destination_of(kind, id)).encode())
        return self._status() == 1

    def finish(self) -> None:
        self._channel.send(PageMessage(self._farewell).encode())
        status = self._status()
        if status:
            raise CrError(f"{self._channel.peer} could not keep the pages (status {status}); its log says why")

    def _status(self) -> int:
        (status,) = STATUS.unpack(self._channel.receive(STATUS.size))
        return int(status)


class PageServerSink(StreamSink):
    """A page map: a message opens it, then a message for each run, which is followed by the pages if it is PRESENT."""

    def __init__(self, channel: Channel, kind: str, id: int) -> None:
        super().__init__(channel)
        self._destination = destination_of(kind, id)
        self._runs: Iterator[tuple[int, int, int]] = iter(())
        self._left = 0
        self._has_parent = False

    def __enter__(self) -> PageServerSink:
        self.channel.send(PageMessage(Command.OPEN2, destination=self._destination).encode())
        (answer,) = HAS_PARENT.unpack(self.channel.receive(HAS_PARENT.size))
        self._has_parent = bool(answer)
        return self

    def __exit__(self, exception: object = None, *_: object) -> None:
        """Runs without pages may be left. Where something went wrong there is nothing to be said: no page map counts
        before finish()."""
        if exception is None:
            before, found = self._messages()
            self.channel.send(before)
            assert found + self._left == 0, "not all pages have been sent"

    def write(self, runs: Iterable[tuple[int, int, int]]) -> None:
        self._runs = iter(runs)

    def pieces(self, size: int) -> Iterator[tuple[bytes, int]]:
        while size:
            before = b""
            if not self._left:
                before, self._left = self._messages()
            part = min(size, self._left)
            assert part, "more pages than were announced"
            self._left -= part
            size -= part
            yield before, part

    def _messages(self) -> tuple[bytes, int]:
        """The messages up to that of the next run with pages, and how many bytes of pages it has, 0: none is left."""
        found = bytearray()
        for vaddr, nr_pages, flags in self._runs:
            if flags & PARENT and not self._has_parent:
                raise CrError(f"{self.channel.peer} has no parent images with the pages at {vaddr:#x} (give it those)")
            found += PageMessage(Command.ADD_F, flags, nr_pages, vaddr, self._destination).encode()
            if flags & PRESENT:
                return bytes(found), nr_pages * PAGE
        return bytes(found), 0
