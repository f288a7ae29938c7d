"""The images of one dump in an image cache: what ImageDir is for files.

A dump sends them by its proxy, a restore gets descriptors of them from the cache. "No such image" is what the cache
says of a snapshot that has all its images. Whatever else goes wrong is an error of its own, never a missing image.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.magic import KINDS
from engine.images.reader import MAX_ENTRY
from engine.transport.frames import SAID_BY_CACHES, Frame, ImageLink, Op, check_id, words_body
from engine.transport.remote_endpoints import CACHE_SOCKET, PROXY_SOCKET, connect_unix
from engine.transport.remote_writer import RemoteWriter

if TYPE_CHECKING:
    from engine.options import Options

_NUMBERS = 1 << 16


class RemoteImages(ImageDir):
    """A snapshot. There is no directory, so ImageDir's own constructor is not called.

    link       the connection
    owns_link  whether that ends with this object
    """

    def __init__(self, link: ImageLink, id: str, bounded: bool = False, owns_link: bool = True) -> None:
        self.bounded = bounded
        self.name = f"snapshot {id}"
        self.fd = -1
        self.id = id
        self._link = link
        self._owns_link = owns_link
        self._held = None

    def close(self) -> None:
        if self._owns_link:
            self._link.close()

    @property
    def identity(self) -> object:
        return self.id

    def exists(self, kind: str, *ids: int | str) -> bool:
        return self.size_of(kind, *ids) is not None

    def size_of(self, kind: str, *ids: int | str) -> int | None:
        answer = self._about(Op.SIZE, kind, *ids)
        return answer.size if answer else None

    def open(self, kind: str, *ids: int | str) -> int:
        answer = self._about(Op.GET, kind, *ids)
        if answer is None:
            raise self.missing(kind, *ids)
        return self._take(answer.size, self.path(kind, *ids))

    def ids(self, kind: str) -> list[int]:
        raise CrError(f"{self.name}: the images in a cache can't be listed")

    def remove(self, kind: str, *ids: int | str) -> None:
        raise CrError(f"{self.path(kind, *ids)} can't be removed from the cache")

    def _about(self, op: Op, kind: str, *ids: int | str) -> Frame | None:
        """What the cache answers about an image; None: there is no such image."""
        answer = self._link.ask(op, words_body(self.id, KINDS[kind].file_name(*ids)))
        return self._expect(answer, Op.FOUND) if answer.op != Op.ABSENT else None

    def _parent_id(self) -> str:
        answer = self._expect(self._link.ask(Op.PARENT, self.id.encode()), Op.NAME)
        return _id(answer.text) if answer.body else ""

    def _expect(self, answer: Frame, op: Op) -> Frame:
        if answer.op != op:
            raise CrError(f"{self._link.peer} answers {answer.op.name} to what asks for {op.name}")
        return answer

    def _take(self, size: int, path: str) -> int:
        """What comes with FOUND: a descriptor."""
        raise NotImplementedError


class SentImages(RemoteImages):
    """Those of a dump: written, and read only as far as they are a parent."""

    has_pages = False

    def __init__(self, link: ImageLink, id: str, bounded: bool = False, owns_link: bool = True) -> None:
        super().__init__(link, id, bounded, owns_link)
        self._is_begun = False
        self._is_stored = False
        self._last_number = 0

    def renew(self, parent: str | None = None) -> None:
        self._link.ask(Op.BEGIN, words_body(self.id, parent or ""))
        self._is_begun = True

    def writer(self, kind: str, *ids: int | str) -> RemoteWriter:
        self._last_number = (self._last_number + 1) % _NUMBERS
        name = KINDS[kind].file_name(*ids)
        return RemoteWriter(self._link, self._last_number, KINDS[kind], name, self.path(kind, *ids), self._held)

    def settle(self) -> None:
        """Returns when the cache has everything."""
        super().settle()
        if not self._is_stored:
            self._link.ask(Op.SYNC)
            self._is_stored = True

    def conclude(self, succeeded: bool) -> None:
        if not succeeded:
            self.discard()
            return
        try:
            self._link.ask(Op.COMMIT)
        except CrError as error:
            remedy = "it has all images, and can be restored with --unconfirmed if the tree has gone"
            raise CrError(f"{self.name} could not be confirmed: {error.message} ({remedy})") from error
        self._is_begun = False

    def discard(self) -> None:
        """Whatever has not been stored the cache forgets when the connection ends, which may do so inside a frame."""
        self._held = None
        try:
            if self._is_begun and self._is_stored:
                self._link.ask(Op.DISCARD)
        except CrError:
            pass  # it is in doubt there
        self._is_begun = False
        self._link.close()

    def relative(self, path: str) -> SentImages:
        """Another snapshot, by its id."""
        return SentImages(self._link, _id(path), self.bounded, owns_link=False)

    def parent(self) -> SentImages | None:
        id = self._parent_id()
        return self.relative(id) if id else None

    def _take(self, size: int, path: str) -> int:
        """The bytes come themselves, from another machine."""
        if size > MAX_ENTRY:
            raise CrError(f"{path} has {size} bytes, more than are fetched back")
        fd = os.memfd_create(path, os.MFD_CLOEXEC)
        try:
            while size:
                frame = self._link.hear(ops=SAID_BY_CACHES)
                if frame is None or frame.op != Op.DATA or not 0 < len(frame.body) <= size:
                    raise CrError(f"{self._link.peer} does not send {path}, but something else, or nothing")
                size -= os.write(fd, frame.body)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd


class ReceivedImages(RemoteImages):
    """Those for a restore. The dump may not have written them yet, or begun: then this waits."""

    def await_whole(self) -> None:
        self._link.ask(Op.AWAIT, self.id.encode())

    def parent(self) -> ReceivedImages | None:
        id = self._parent_id()
        return ReceivedImages(self._link, id, self.bounded, owns_link=False) if id else None

    def accept(self) -> None:
        """The user says that it may be restored although it is in doubt."""
        self._link.ask(Op.ACCEPT, self.id.encode())

    def _take(self, size: int, path: str) -> int:
        fd = self._link.take_fd()
        if fd < 0:
            raise CrError(f"{self._link.peer} has sent no descriptor of {path} (are too many open here?)")
        return fd


def for_dump(opts: Options) -> SentImages:
    """CrError: the proxy is not there."""
    return SentImages(connect_unix(opts, PROXY_SOCKET, "the image proxy"), opts.snapshot_id)


def for_restore(opts: Options) -> ReceivedImages:
    """CrError: the cache is not there."""
    link = connect_unix(opts, CACHE_SOCKET, "the image cache")
    images = ReceivedImages(link, opts.snapshot_id, bounded=True)
    if opts.unconfirmed:
        images.accept()
    return images


def _id(text: str) -> str:
    try:
        return check_id(text)
    except ValueError as error:
        raise CrError(f"{text!r}: {error}") from None
