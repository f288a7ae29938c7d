"""Sending images to a proxy: small ones from memory, pages by the tasks themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.images.writer import ImageWriter
from engine.transport.frames import LARGEST, ImageLink, Op, header, size_body
from engine.transport.sink import ImageSinks
from engine.transport.stream import StreamSink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO
    from typing import Self

    from engine.images.magic import Kind
    from engine.images.pagemap import PagemapWriter


class RemoteWriter(ImageWriter):
    """One image. The cache knows one that is begun and not complete from a whole one, so nothing takes it back: a
    snapshot with such an image can't be stored."""

    def __init__(
        self, link: ImageLink, number: int, kind: Kind, name: str, path: str, held: list[ImageWriter] | None
    ) -> None:
        """number: by which frames name it."""
        super().__init__(-1, kind, name, path, held)
        self.link = link
        self._number = number
        self._is_open = False
        self._size = 0

    @property
    def file(self) -> FileIO:
        raise CrError(f"{self.path} is in no file")

    def copy(self, source: int, offset: int, size: int) -> None:
        for before, part in self.pieces(size):
            self.link.send(before)
            self.link.send_file(source, offset, part)
            offset += part

    def pieces(self, size: int) -> Iterator[tuple[bytes, int]]:
        """Parts that make up `size` bytes, which somebody is going to send, each with what goes before it."""
        self._begin()
        self._flush()
        while size:
            part = min(size, LARGEST)
            yield header(Op.DATA, self._number, part), part
            size, self._size = size - part, self._size + part

    def remove_stale(self) -> None:
        pass

    @property
    def _is_made(self) -> bool:
        return self._is_open

    def _create(self) -> None:
        self.link.say(Op.OPEN, self._name.encode(), self._number)
        self._is_open = True

    def _write(self, view: memoryview) -> None:
        for start in range(0, len(view), LARGEST):
            with view[start : start + LARGEST] as part:
                self.link.say(Op.DATA, part, self._number)
                self._size += len(part)

    def _complete(self) -> None:
        self.link.say(Op.CLOSE, size_body(self._size), self._number)
        self._is_open = False

    def _close(self) -> None:
        self._is_open = False


class RemoteSinks(ImageSinks):
    """Page maps and pages, one task after the other: there is one connection."""

    one_at_a_time = True

    def open(self, kind: str, id: int) -> RemoteSink:
        return RemoteSink(self.writer(kind, id))


class RemoteSink(StreamSink):
    """Two images, one of which a task may write."""

    def __init__(self, writer: PagemapWriter) -> None:
        assert isinstance(writer.pages, RemoteWriter)
        super().__init__(writer.pages.link)
        self._writer = writer
        self._pages = writer.pages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.__exit__(*exception)

    def write(self, runs: Iterable[tuple[int, int, int]]) -> None:
        self._writer.write(runs)

    def pieces(self, size: int) -> Iterator[tuple[bytes, int]]:
        return self._pages.pieces(size)
