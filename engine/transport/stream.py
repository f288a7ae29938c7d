"""Pages that go into a connection, one after the other.

A task is given the socket and sends its pages itself, so that they don't pass through the engine: task/page_stream.py.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from engine.transport.sink import PageSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.transport.channel import Channel

_ZEROS = bytes(1 << 16)


class StreamSink(PageSink):
    """A page map that goes over a connection."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    @abstractmethod
    def pieces(self, size: int) -> Iterator[tuple[bytes, int]]:
        """How the next `size` bytes of pages are sent: parts that make up so many, each with what goes before it.

        To be used up: the next call goes on behind them. (b"", size), if the protocol has nothing between pages.
        """

    def put(self, content: bytes) -> None:
        with memoryview(content) as view:
            position = 0
            for before, size in self.pieces(len(view)):
                self.channel.send(before)
                self.channel.send(view[position : position + size])
                position += size

    def skip(self, size: int) -> None:
        while size > 0:
            part = _ZEROS[:size]
            self.put(part)
            size -= len(part)

    def copy(self, fd: int, offset: int, size: int) -> None:
        for before, part in self.pieces(size):
            self.channel.send(before)
            self.channel.send_file(fd, offset, part)
            offset += part
