"""What follows the entries of an image, as the key "extra" of their JSON.

Mostly that is base64. A TCP stream has {"inq": …, "outq": …}, semaphores are a list of numbers, queued messages a list
that alternates between message and base64. The chunks of a ghost file are entries of their own. Raw images, which the
field's tool does not take, are one entry with nothing but its "extra". Padding that is not zero is kept in "@padding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.crit.form import to_json
from engine.crit.streamed import Base64, Items
from engine.images import magic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.images.reader import ImageReader

    Entry = dict[str, Any]

EXTRA, PADDING = "extra", "@padding"
ALIGNS = {"IPCNS_SHM": 4, "IPCNS_SEM": 8, "IPCNS_MSG": 8}
MAX_SEMAPHORES = 1 << 16
"""semop(2) can't name more."""


class Decoder:
    """The entries of an image as JSON. pretty: see form.py. with_payload: else there is just its size."""

    def __init__(self, reader: ImageReader, pretty: bool, with_payload: bool) -> None:
        self._reader = reader
        self._pretty = pretty
        self._with_payload = with_payload

    def entries(self) -> Iterator[Entry]:
        """One by one. An entry's payload has to be written before the next is asked for."""
        reader = self._reader
        if not reader.kind.messages:
            yield {EXTRA: self._rest()}
            return
        for entry in reader:
            yield from self._with_extra(entry, to_json(entry, reader.raw, self._pretty))
        if reader.left:
            raise reader.error(f"{reader.left} bytes follow what there should be")

    def _with_extra(self, entry: Any, value: Entry) -> Iterator[Entry]:
        kind = self._reader.kind
        if kind.framing == magic.GHOST:
            yield from self._ghost(entry, value)
            return
        if kind.framing in (magic.ARRAY_PAYLOAD, magic.SINGLE_PAYLOAD):
            start = self._reader.offset
            value[EXTRA] = _EXTRAS.get(kind.name, Decoder._plain)(self, entry)
            if kind.name != "IPCNS_MSG":
                self._keep_padding(value, self._reader.offset - start)
        yield value

    def _plain(self, _: Any) -> Any:
        return self._rest()

    def _rest(self, length: int | None = None) -> Any:
        """The next bytes of the payload, by default all that are left of it."""
        span = self._reader.payload_at(length)
        return Base64(*span) if self._with_payload else f"... <{_readable(span[2])}>"

    def _tcp_stream(self, entry: Any) -> Any:
        return {"inq": self._rest(entry.inq_len), "outq": self._rest(entry.outq_len)}

    def _semaphores(self, entry: Any) -> Any:
        if entry.nsems > MAX_SEMAPHORES:
            raise self._reader.error(f"it has a set of {entry.nsems} semaphores, possible are {MAX_SEMAPHORES}")
        if not self._with_payload:
            return self._rest()
        data = self._reader.payload()
        return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]

    def _messages(self, queue: Any) -> Any:
        if self._with_payload:
            return Items(self._message_items(queue.qnum))
        total = 0
        for _ in range(queue.qnum):
            size = self._reader.entry("ipc_msg").msize
            total += self._reader.payload_at(size, ALIGNS["IPCNS_MSG"])[2]
        return f"... <{_readable(total)}>"

    def _message_items(self, number: int) -> Iterator[Any]:
        reader = self._reader
        for _ in range(number):
            message = reader.entry("ipc_msg")
            value = to_json(message, reader.raw, self._pretty)
            body = Base64(*reader.payload_at(message.msize))
            self._keep_padding(value, message.msize)
            yield value
            yield body

    def _ghost(self, entry: Any, value: Entry) -> Iterator[Entry]:
        reader = self._reader
        if not entry.chunks:
            yield {**value, EXTRA: self._rest()}
            return
        yield value
        while reader.left:
            chunk = reader.entry("ghost_chunk_entry")
            value = to_json(chunk, reader.raw, self._pretty)
            yield {**value, EXTRA: self._rest(chunk.len)}

    def _keep_padding(self, value: Entry, length: int) -> None:
        """Step over what fills a payload of this length up; keep it if any byte of it is not zero."""
        size = -length % ALIGNS.get(self._reader.kind.name, 1)
        padding = self._reader.peek(size)
        if len(padding) < size:
            raise self._reader.error("it ends within a payload")
        self._reader.skip(size)
        if any(padding):
            from base64 import b64encode

            value[PADDING] = b64encode(padding).decode()


_EXTRAS: dict[str, Callable[[Decoder, Any], Any]] = {
    "TCP_STREAM": Decoder._tcp_stream,
    "IPCNS_SEM": Decoder._semaphores,
    "IPCNS_MSG": Decoder._messages,
}


def _readable(size: float) -> str:
    """ "12B", "1.5KB"."""
    for unit in ("", "K", "M", "G", "T"):
        if size < 1024:
            return f"{size:.1f}{unit}B" if size % 1 else f"{size:.0f}{unit}B"
        size /= 1024
    return f"{size:.1f}PB"
