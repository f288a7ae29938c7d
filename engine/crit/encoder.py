"""Entries as JSON, written as an image. payloads.py says how what follows an entry looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.crit.files import unpack_base64
from engine.crit.form import from_json
from engine.crit.json_stream import Blob
from engine.crit.payloads import ALIGNS, EXTRA, PADDING
from engine.images import magic
from engine.images.reader import payload_length
from engine.images.runs import PAGE, encode
from engine.images.schema import message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.crit.files import Output
    from engine.images.magic import Kind

    Entry = dict[str, Any]

_USUAL_RUN = {"vaddr", "compat_nr_pages", "flags", "nr_pages"}
_RUNS_AT_ONCE = 1 << 14


class Encoder:
    """Writes an image entry by entry.

    count  entries so far
    """

    def __init__(self, out: Output, kind: Kind, old: bool) -> None:
        """old: version 1 of the format, without the common first magic."""
        self._out = out
        self._kind = kind
        self._runs: list[tuple[int, int, int]] = []
        self._chunks_follow = False
        self.count = 0
        out.write(kind.header[-4:] if old else kind.header)

    def add(self, entry: Entry) -> None:
        """ValueError or TypeError: what is wrong with it."""
        self.count += 1
        if self._kind.framing == magic.RAW:
            self._add_raw(entry)
        elif self._kind.framing == magic.GHOST:
            self._add_ghost(entry)
        elif self._kind.framing == magic.HEAD_ARRAY and self.count > 1:
            self._add_run(entry)
        elif self._kind.framing == magic.SINGLE and self.count > 1:
            raise ValueError("an image of this kind has just one")
        else:
            self._add(entry)

    def end(self) -> None:
        """All entries are there. ValueError: that can't be all."""
        self._flush_runs()
        if self.count == 0 and self._kind.framing not in (magic.ARRAY, magic.ARRAY_PAYLOAD):
            raise ValueError("there is no entry, an image of this kind has one")

    def _put(self, name: str, entry: Entry) -> Any:
        """Write a framed message. Returns it."""
        data = from_json(name, entry)
        self._out.write(len(data).to_bytes(4, "little"))
        self._out.write(data)
        return message(name).FromString(data)

    def _add(self, entry: Entry) -> None:
        has_payload = self._kind.framing in (magic.ARRAY_PAYLOAD, magic.SINGLE_PAYLOAD)
        if self._kind.framing == magic.SINGLE_PAYLOAD and self.count > 1:
            raise ValueError("an image of this kind has just one")
        extra = entry.pop(EXTRA, None) if has_payload else None
        padding = entry.pop(PADDING, None) if has_payload else None
        written = self._put(self._kind.messages[0], entry)
        if self._kind.name == "IPCNS_MSG":
            self._add_messages(extra, written.qnum)
        elif has_payload:
            parts = list(_payload(self._kind.name, extra))
            wanted = payload_length(self._kind, written)
            self._write_all(parts, wanted, padding)

    def _write_all(self, parts: list[bytes | Blob], wanted: int, padding: Any) -> None:
        """Write a payload that its entry says is `wanted` bytes long, and fill it up."""
        size = sum(part.size if isinstance(part, Blob) else len(part) for part in parts)
        if size != wanted:
            raise ValueError(f'its fields say that {wanted} bytes follow, "{EXTRA}" has {size}')
        for part in parts:
            for data in part.pieces() if isinstance(part, Blob) else (part,):
                self._out.write(data)
        fill = -size % ALIGNS.get(self._kind.name, 1)
        kept = unpack_base64(padding) if padding is not None else b""
        self._out.write(kept if len(kept) == fill else bytes(fill))

    def _add_messages(self, extra: Any, number: int) -> None:
        items = extra if isinstance(extra, list) else []
        if len(items) != 2 * number:
            raise ValueError(f'it says that {number} messages follow, "{EXTRA}" must be a list of twice as many items')
        for head, body in zip(items[::2], items[1::2], strict=True):
            padding = head.pop(PADDING, None) if isinstance(head, dict) else None
            written = self._put("ipc_msg", head)
            self._write_all([unpack_base64(body)], written.msize, padding)

    def _add_raw(self, entry: Entry) -> None:
        if self.count > 1 or set(entry) != {EXTRA}:
            raise ValueError(f'a raw image has just one entry, with nothing but "{EXTRA}"')
        self._write_plain(entry[EXTRA])

    def _write_plain(self, extra: Any) -> int:
        """Write bytes, however many there are. Returns their number."""
        data = extra if isinstance(extra, Blob) else unpack_base64(extra)
        size = data.size if isinstance(data, Blob) else len(data)
        for piece in data.pieces() if isinstance(data, Blob) else (data,):
            self._out.write(piece)
        return size

    def _add_ghost(self, entry: Entry) -> None:
        extra = entry.pop(EXTRA, None)
        if self.count == 1:
            self._chunks_follow = self._put("ghost_file_entry", entry).chunks
            if not self._chunks_follow and extra is not None:
                self._write_plain(extra)
        elif not self._chunks_follow:
            raise ValueError("only a ghost file with chunks has more than one entry")
        else:
            chunk = self._put("ghost_chunk_entry", entry)
            data = extra if isinstance(extra, Blob) else unpack_base64(extra)
            self._write_all([data], chunk.len, None)

    def _add_run(self, entry: Entry) -> None:
        """Collect runs that runs.encode() writes as they are; write any other by itself."""
        run = _run_of(entry)
        if run is None:
            self._flush_runs()
            entry.setdefault("compat_nr_pages", entry.get("nr_pages"))
            self._put("pagemap_entry", entry)
            return
        self._runs.append(run)
        if len(self._runs) == _RUNS_AT_ONCE:
            self._flush_runs()

    def _flush_runs(self) -> None:
        for data in encode(self._runs):
            self._out.write(data)
        self._runs.clear()


def _run_of(entry: Entry) -> tuple[int, int, int] | None:
    """(vaddr, nr_pages, flags) of a run that has nothing unusual about it."""
    if entry.keys() != _USUAL_RUN:
        return None
    vaddr, nr_pages, flags = entry["vaddr"], entry["nr_pages"], entry["flags"]
    if not type(vaddr) is type(nr_pages) is type(flags) is int or nr_pages != entry["compat_nr_pages"]:
        return None
    is_usual = 0 <= vaddr < 1 << 63 and vaddr % PAGE == 0 and 0 < nr_pages < 1 << 28 and 0 <= flags < 0x80
    return (vaddr, nr_pages, flags) if is_usual else None


def _payload(kind: str, extra: Any) -> Iterator[bytes | Blob]:
    """The bytes of a payload. ValueError: they are not as this kind has them."""
    if kind == "TCP_STREAM":
        if not isinstance(extra, dict):
            raise ValueError(f'"{EXTRA}" must be an object of "inq" and "outq"')
        yield unpack_base64(extra.get("inq"))
        yield unpack_base64(extra.get("outq"))
    elif kind == "IPCNS_SEM":
        if not isinstance(extra, list) or not all(type(value) is int and 0 <= value < 1 << 16 for value in extra):
            raise ValueError(f'"{EXTRA}" must be a list of values from 0 to 65535')
        yield b"".join(value.to_bytes(2, "little") for value in extra)
    else:
        yield extra if isinstance(extra, Blob) else unpack_base64(extra)
