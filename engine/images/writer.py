"""Writing one image file. It appears with its first entry; without one, a left-over file of its name is removed."""

from __future__ import annotations

import os

from engine.errors import CrError
from engine.kernel.extents import copy_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Any, Self

    from engine.images.magic import Kind

_FLUSH_AT = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ImageWriter:
    """Collects entries and payloads and writes them out in large pieces.

        with images.writer("PIPES_DATA") as writer:
            writer.put(entry)
            writer.put_payload(data)

    When the `with` is left by an exception the file is removed: no image is better than half of one.
    """

    def __init__(self, dir_fd: int, kind: Kind, name: str, path: str, held: list[ImageWriter] | None = None) -> None:
        """dir_fd: the images directory. name: the file in it. path: for messages.

        held  where a small image goes when it is complete, to be written by finish(); None: it is written at once
        """
        self.kind = kind
        self.path = path
        self._dir_fd = dir_fd
        self._name = name
        self._held = held
        self._pending = bytearray()
        self._begun = False
        self._fd = -1
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is None:
            self.close()
        else:
            self.discard()

    @property
    def file(self) -> FileIO:
        """The unbuffered file itself, with everything put so far in it: to splice into, or for a tool to write to."""
        self._begin()
        self._flush()
        if self._file is None:
            self._file = open(self._fd, "wb", buffering=0, closefd=False)  # noqa: SIM115 - the descriptor is closed
        return self._file

    def put(self, entry: Any) -> None:
        """Append one framed message. CrError: a required field is not set."""
        from google.protobuf.message import EncodeError

        try:
            data = entry.SerializeToString()
        except (EncodeError, ValueError) as error:
            raise CrError(f"{self.path}: an incomplete entry, which is a defect of the engine: {error}") from None
        self.put_raw(data)

    def put_raw(self, data: bytes) -> None:
        """Append one framed message that is serialised already."""
        self.put_payload(len(data).to_bytes(4, "little") + data)

    def put_payload(self, data: bytes | bytearray | memoryview, align: int = 1) -> None:
        """Append bytes as they are, with zeros up to a multiple of align of them."""
        self._begin()
        self._pending += data
        if align > 1:
            self._pending += bytes(-len(data) % align)
        if len(self._pending) >= _FLUSH_AT:
            self._flush()

    def copy(self, source: int, offset: int, size: int) -> None:
        """Append a part of a regular file. EOFError: it is shorter."""
        target = self.file.fileno()
        copy_range(source, offset, target, os.fstat(target).st_size, size)

    def close(self) -> None:
        """The image is complete: write out what is left, or hold it back."""
        if self._held is None or self._is_made:
            self.finish()
        elif self._begun:
            self._held.append(self)

    def finish(self) -> None:
        """Write out what is left."""
        if not self._begun:
            return
        try:
            self._flush()
        except BaseException:
            self.discard()
            raise
        self._complete()

    def discard(self) -> None:
        """Close, and leave no file."""
        self._pending.clear()
        if self._is_made:
            self._close()
            self.remove_stale()

    @property
    def _is_made(self) -> bool:
        """Whether there is something to be completed or removed."""
        return self._fd >= 0

    def _begin(self) -> None:
        if not self._begun:
            if self._held is None:
                self._create()
            self._begun = True
            self._pending += self.kind.header

    def _create(self) -> None:
        """O_EXCL, since the old file was unlinked: what a symlink, a FIFO or another hard link of this name leads to is
        none of ours to write to."""
        try:
            self._fd = os.open(self._name, _CREATE, 0o644, dir_fd=self._dir_fd)
        except OSError as error:
            raise CrError(f"{self.path} cannot be created: {error.strerror}") from error

    def _flush(self) -> None:
        if not self._is_made:
            self._create()
        with memoryview(self._pending) as view:
            self._write(view)
        self._pending.clear()

    def _write(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                done += os.write(self._fd, view[done:])
            except OSError as error:
                raise CrError(f"{self.path} cannot be written: {error.strerror}; is there room left?") from error

    def _complete(self) -> None:
        """Everything has been written."""
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove_stale(self) -> None:
        """Take away what an earlier dump left under this name."""
        try:
            os.unlink(self._name, dir_fd=self._dir_fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CrError(f"{self.path} is in the way and cannot be removed: {error.strerror}") from error
