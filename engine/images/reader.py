"""Reading one image file: header, framed entries, payloads.

Images come from elsewhere, so nothing in them is believed: a size is compared with what the file still holds before
memory is allocated, and whatever is wrong becomes one CrError that names file, offset, kind and remedy.
"""

from __future__ import annotations

import os
import stat

from engine.errors import CrError
from engine.images import bounds, magic
from engine.images.schema import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

# The largest things that exist, an mm with 65530 mappings or a pstree entry with all its threads, stay far below.
MAX_ENTRY = 256 << 20
_WINDOW = 64 << 10

# Kinds whose payload length is in the entry: length, and the multiple that the length is padded to.
_PAYLOADS: dict[str, Any] = {
    "PIPES_DATA": lambda entry: (entry.bytes, 1),
    "FIFO_DATA": lambda entry: (entry.bytes, 1),
    "SK_QUEUES": lambda entry: (entry.length, 1),
    "TCP_STREAM": lambda entry: (entry.inq_len + entry.outq_len, 1),
    "BPFMAP_DATA": lambda entry: (entry.keys_bytes + entry.values_bytes, 1),
    "IPCNS_SHM": lambda entry: (0 if entry.in_pagemaps else entry.size, 4),
    "IPCNS_SEM": lambda entry: (2 * entry.nsems, 8),
}


def padded(length: int, align: int) -> int:
    """length rounded up to a multiple of align."""
    return -(-length // align) * align


def payload_length(kind: magic.Kind, entry: Any) -> int:
    """How many bytes follow an entry, of those kinds whose entries say it."""
    length, _ = _PAYLOADS[kind.name](entry)
    return int(length)


class ImageReader:
    """Iterates over the messages of one file; between two of them, payload() gives the bytes that follow the entry.

        with images.reader("PIPES_DATA") as reader:
            for entry in reader:
                data = reader.payload()

    A payload of known length that nobody asks for is skipped. Closes its descriptor when the `with` ends.

    raw  the bytes of the last message
    """

    def __init__(self, fd: int, kind: magic.Kind, path: str, bounded: bool = False) -> None:
        """fd: open for reading, taken over even when this raises. path: for messages. bounded: see ImageDir."""
        self.fd = fd
        self.bounded = bounded
        self.kind = kind
        self.path = path
        self.offset = 0
        self._window = b""
        self._window_at = 0
        self._payload_end = 0
        self._next_entry = 0
        self._seen = 0
        self.raw = b""
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise self.error("it is not a regular file")
            self.size = status.st_size
            self._check_header()
        except BaseException:
            os.close(fd)
            raise
        if not kind.messages:
            self._payload_end = self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def fileno(self) -> int:
        """The descriptor, at file position 0: for raw kinds that a tool reads as its standard input."""
        return self.fd

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self.size - self.offset

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        name = self._next_message()
        if name is None:
            raise StopIteration
        entry = self.entry(name)
        self._seen += 1
        self._expect_payload(entry)
        return entry

    def entry(self, name: str) -> Any:
        """The framed message `name` that starts here. Only for entries inside payloads; others come by iterating."""
        start = self.offset
        size = int.from_bytes(self._take(4, "the size of an entry"), "little")
        if size > min(self.left, MAX_ENTRY):
            raise self.error(f"an entry claims {size} bytes where {self.left} are left", start)
        self.raw = self._take(size, "an entry")
        return self._parse(name, self.raw, start)

    def peek(self, length: int) -> bytes:
        """Up to length bytes from here on, without going on; fewer at the end of the file."""
        begin = self.offset - self._window_at
        if not 0 <= begin <= len(self._window) - length:
            self._window = self._pread(max(length, _WINDOW))
            self._window_at, begin = self.offset, 0
        return self._window[begin : begin + length]

    def skip(self, length: int) -> None:
        """Go on by bytes that have been peeked at."""
        self.offset += length

    def payload(self, length: int | None = None, align: int = 1) -> bytes:
        """The next length bytes of the payload (default: all that are left of it). Padding to align is skipped."""
        length = self._checked(length, align)
        if length > MAX_ENTRY:
            raise self.error(f"a payload of {length} bytes is more than the {MAX_ENTRY} that are read at once")
        data = self._take(length, "a payload")
        self.offset += padded(length, align) - length
        return data

    def payload_at(self, length: int | None = None, align: int = 1) -> tuple[int, int, int]:
        """Like payload(), without reading it: (descriptor, offset, length), for splice, sendfile and preadv."""
        length = self._checked(length, align)
        span = self.fd, self.offset, length
        self.offset += padded(length, align)
        return span

    def error(self, what: str, offset: int | None = None) -> CrError:
        """A CrError about this file."""
        at = self.offset if offset is None else offset
        return CrError(
            f"{self.path}: {what} (offset {at}, {self.kind.name} image); "
            "the file is damaged or no image of this kind, copy it again from where it was dumped or dump again"
        )

    def _check_header(self) -> None:
        """Compare the magics, and step behind them. Version 1 of the format has no prefix."""
        kind = self.kind
        if kind.magic is None:
            return
        first = int.from_bytes(self._take(4, "its magic"), "little")
        if kind.prefix is not None and first in (magic.COMMON, magic.SERVICE):
            if first != kind.prefix and int.from_bytes(self.peek(4), "little") == kind.magic:
                raise self.error(f"its first magic is {first:#x} instead of {kind.prefix:#x}", 0)
            first = int.from_bytes(self._take(4, "its magic"), "little")
        if first != kind.magic:
            others = " or ".join(other.name for other in magic.BY_MAGIC.get(first, ()))
            what = f"it is an image of kind {others}" if others else f"its magic is {first:#x}, no kind has that"
            raise self.error(f"{what}, but {kind.name} ({kind.magic:#x}) is wanted here", 0)
        self._next_entry = self.offset

    def _next_message(self) -> str | None:
        """Go to the next entry and name its message. None: there is none."""
        kind, seen = self.kind, self._seen
        if not kind.messages or (seen and kind.framing in (magic.SINGLE_PAYLOAD, magic.GHOST)):
            return None
        self.offset = max(self.offset, self._next_entry)
        if seen and kind.framing == magic.SINGLE and self.left:
            raise self.error(f"{self.left} bytes follow the one entry there should be")
        if self.left == 0:
            if seen == 0 and kind.framing not in (magic.ARRAY, magic.ARRAY_PAYLOAD):
                raise self.error("it ends before its first entry")
            return None
        return kind.messages[1 if seen and kind.framing == magic.HEAD_ARRAY else 0]

    def _parse(self, name: str, data: bytes, start: int) -> Any:
        from google.protobuf.message import DecodeError

        try:
            entry = message(name).FromString(data)
        except (DecodeError, UnicodeDecodeError) as error:
            raise self.error(f"an entry is no valid {name} ({error})", start) from None
        if not entry.IsInitialized():
            missing = ", ".join(entry.FindInitializationErrors())
            raise self.error(f"a {name} lacks required fields: {missing}", start)
        if self.bounded and (why := bounds.problem(entry)):
            raise self.error(why, start)
        return entry

    def _expect_payload(self, entry: Any) -> None:
        """Find out how many bytes follow entry, and that the file has them."""
        self._next_entry = self.offset
        length_of = _PAYLOADS.get(self.kind.name)
        if length_of is not None:
            length, align = length_of(entry)
            if padded(length, align) > self.left:
                raise self.error(f"a payload of {length} bytes should follow, {self.left} are left")
            self._payload_end = self.offset + length
            self._next_entry = self.offset + padded(length, align)
        elif self.kind.framing in (magic.ARRAY_PAYLOAD, magic.GHOST):
            self._payload_end = self.size

    def _checked(self, length: int | None, align: int) -> int:
        """length, found to be there; None: what is left of the payload."""
        left = max(self._payload_end - self.offset, 0)
        length = left if length is None else length
        if not 0 <= length <= left or padded(length, align) > self.left:
            raise self.error(f"{length} bytes of payload are wanted, {left} are left")
        return length

    def _take(self, length: int, what: str) -> bytes:
        data = self.peek(length)
        if len(data) < length:
            raise self.error(f"it ends inside {what}: {length} bytes wanted, {len(data)} left")
        self.offset += length
        return data

    def _pread(self, length: int) -> bytes:
        parts: list[bytes] = []
        offset = self.offset
        while length:
            part = os.pread(self.fd, length, offset)
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)
