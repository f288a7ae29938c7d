"""Where the page maps of a dump go: into files of the images directory, or over a connection to whoever keeps them.

A dump, a pre-dump and shared memory all write their pages the same way:

    with ctx.sinks.open("PAGEMAP", pid) as sink:
        sink.write(runs)             # (vaddr, nr_pages, flags) of all runs, ascending
        sink.put(content)            # then the bytes of the PRESENT ones, one after the other, in any portions,
        sink.skip(size)              # zeros among them
        sink.copy(fd, offset, size)  # and parts of files

A task writes its pages itself (task/pages.py): into the file that a FileSink has, or into the socket of a StreamSink.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from engine.images.pagemap import PagemapWriter
from engine.kernel.extents import copy_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from engine.images.directory import ImageDir
    from engine.options import Options
    from engine.transport.stream import StreamSink


class PageSink(ABC):
    """Takes one page map. What there is of it vanishes when its `with` is left by an exception."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *exception: object) -> None: ...

    @abstractmethod
    def write(self, runs: Iterable[tuple[int, int, int]]) -> None:
        """Say which runs there are: once, before any of their pages."""

    @abstractmethod
    def put(self, content: bytes) -> None:
        """The next bytes of the pages."""

    @abstractmethod
    def skip(self, size: int) -> None:
        """The next bytes are zeros."""

    @abstractmethod
    def copy(self, fd: int, offset: int, size: int) -> None:
        """The next bytes are those of a regular file. Its pages may be lent to the network, so what is in them must
        not change before PageSinks.finish(). EOFError: the file is shorter."""


class PageSinks(ABC):
    """Makes the sinks of one dump. Left by an exception, it leaves no page map behind.

    one_at_a_time   whether a sink has to be closed before the next one is opened
    """

    one_at_a_time: bool

    @abstractmethod
    def open(self, kind: str, id: int) -> FileSink | StreamSink:
        """The sink of a page map. kind: PAGEMAP, with a virtual pid, or SHMEM_PAGEMAP, with a shmid."""

    @abstractmethod
    def finish(self) -> None:
        """All page maps have been written. Returns when they are safe; CrError: they are not."""


class ImageSinks(PageSinks):
    """Page maps that become images, each with its pages in another one."""

    def __init__(self, images: ImageDir) -> None:
        self._images = images
        self._last_pages_id = 0

    def writer(self, kind: str, id: int) -> PagemapWriter:
        """Of the next page map."""
        self._last_pages_id += 1
        return PagemapWriter(self._images, id, kind, self._last_pages_id)

    def finish(self) -> None:
        """ImageDir.settle() is what everything waits for."""


class FileSinks(ImageSinks):
    """Page maps in the images directory, each with a pages file."""

    one_at_a_time = False

    def open(self, kind: str, id: int) -> FileSink:
        return FileSink(self.writer(kind, id))


class FileSink(PageSink):
    """Two files. A task does not write in order here, but where in the file its pages belong."""

    def __init__(self, writer: PagemapWriter) -> None:
        self._writer = writer
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.__exit__(*exception)

    @property
    def file(self) -> int:
        """The pages file, which this creates."""
        return self._writer.pages_fd

    def write(self, runs: Iterable[tuple[int, int, int]]) -> None:
        self._writer.write(runs)

    def put(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            done = os.pwrite(self.file, view, self._position)
            self._position, view = self._position + done, view[done:]

    def skip(self, size: int) -> None:
        if size:
            self._position += size
            os.ftruncate(self.file, self._position)

    def copy(self, fd: int, offset: int, size: int) -> None:
        copy_range(fd, offset, self.file, self._position, size)
        self._position += size


@contextlib.contextmanager
def sinks_of(opts: Options, images: ImageDir) -> Iterator[PageSinks]:
    """The sinks that the options ask for. opts: of dump and pre-dump."""
    if opts.remote:
        from engine.transport.remote_writer import RemoteSinks

        yield RemoteSinks(images)
        return
    if not opts.page_server:
        yield FileSinks(images)
        return
    from engine.transport import endpoint
    from engine.transport.page_client import PageServerSinks
    from engine.transport.protocol import Command

    channel = endpoint.connect(opts)
    try:
        yield PageServerSinks(channel, Command.FORCE_CLOSE if opts.ps_socket >= 0 else Command.CLOSE)
    finally:
        channel.close()
