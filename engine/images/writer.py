"""Writing one image file. It appears with its first entry; without one, a left-over file of its name is removed."""

from __future__ import annotations

import os

from engine.errors import CrError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Any, Self

    from engine.images.magic import Kind

_FLUSH_AT = 1 << 20


class ImageWriter:
    """Collects entries and payloads and writes them out in large pieces.

        with images.writer("PIPES_DATA") as writer:
            writer.put(entry)
            writer.put_payload(data)

    When the `with` is left by an exception the file is removed: no image is better than half of one.
    """

    def __init__(self, dir_fd: int, kind: Kind, name: str, path: str) -> None:
        """dir_fd: the images directory. name: the file in it. path: for messages."""
        self.kind = kind
        self.path = path
        self._dir_fd = dir_fd
        self._name = name
        self._pending = bytearray()
        self._file: FileIO | None = None
        self._remove_stale()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is None:
            self.close()
        else:
            self.discard()

    @property
    def created(self) -> bool:
        """Whether there is a file by now."""
        return self._file is not None

    @property
    def file(self) -> FileIO:
        """The unbuffered file itself, with everything put so far in it: to splice into, or for a tool to write to."""
        self._flush()
        return self._created()

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
        self._created()
        self._pending += data
        self._pending += bytes(-len(data) % align)
        if len(self._pending) >= _FLUSH_AT:
            self._flush()

    def close(self) -> None:
        """Write out what is left."""
        if self._file is None:
            return
        try:
            self._flush()
        except BaseException:
            self.discard()
            raise
        self._file.close()

    def discard(self) -> None:
        """Close, and leave no file."""
        self._pending.clear()
        if self._file is not None:
            self._file.close()
            self._remove_stale()

    def _created(self) -> FileIO:
        """The file, created with its header at the first call.

        O_EXCL, since the old file was unlinked: what a symlink, a FIFO or another hard link of this name leads to is
        none of ours to write to.
        """
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(self._name, flags, 0o644, dir_fd=self._dir_fd)
            except OSError as error:
                raise CrError(f"{self.path} cannot be created: {error.strerror}") from error
            self._file = open(fd, "wb", buffering=0)  # noqa: SIM115 - closed by close() and discard()
            self._pending += self.kind.header
        return self._file

    def _flush(self) -> None:
        file = self._created()
        with memoryview(self._pending) as view:
            done = 0
            while done < len(view):
                try:
                    done += file.write(view[done:])
                except OSError as error:
                    raise CrError(f"{self.path} cannot be written: {error.strerror}; is there room left?") from error
        self._pending.clear()

    def _remove_stale(self) -> None:
        try:
            os.unlink(self._name, dir_fd=self._dir_fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CrError(f"{self.path} is in the way and cannot be removed: {error.strerror}") from error
