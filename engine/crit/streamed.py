"""JSON values that are written while they are read: what follows entries may be as large as a disk."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.crit.files import Output

INDENT = 4
_LINE = 57
"""Bytes that are 76 characters of base64."""
_AT_ONCE = _LINE << 12


class Streamed:
    """A value that makes its JSON in pieces."""

    def pieces(self, indent: int | None) -> Iterator[str]:
        """indent: how far the line that the value begins in is indented; None: all is in one line."""
        raise NotImplementedError


class Base64(Streamed):
    """Bytes of a file, as base64 in lines of 76 characters."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self._span = fd, offset, length

    def pieces(self, indent: int | None) -> Iterator[str]:
        from base64 import encodebytes

        yield '"'
        for data in read_span(*self._span, _AT_ONCE):
            yield encodebytes(data).decode("ascii").replace("\n", "\\n")
        yield '"'


class Items(Streamed):
    """A list whose items are made one by one."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def pieces(self, indent: int | None) -> Iterator[str]:
        inner = None if indent is None else indent + INDENT
        before, between = "[" + _new_line(inner), "," + (_new_line(inner) or " ")
        is_empty = True
        for item in self._items:
            yield before if is_empty else between
            yield from dumped(item, inner)
            is_empty = False
        yield "[]" if is_empty else _new_line(indent) + "]"


def _new_line(indent: int | None) -> str:
    return "" if indent is None else "\n" + " " * indent


def read_span(fd: int, offset: int, length: int, at_once: int) -> Iterator[bytes]:
    """The bytes of a stretch of a file in pieces of at_once bytes, the last one excepted."""
    while length:
        data = bytearray()
        wanted = min(at_once, length)
        while len(data) < wanted:
            part = os.pread(fd, wanted - len(data), offset + len(data))
            if not part:
                raise CrError("an image has become shorter while it was read")
            data += part
        yield bytes(data)
        offset, length = offset + wanted, length - wanted


def dumped(value: Any, indent: int | None) -> Iterator[str]:
    """The JSON of a value with Streamed values anywhere in it. indent: as for Streamed.pieces()."""
    waiting: list[Streamed] = []
    marker = f"@{os.urandom(12).hex()}"

    def note(part: Any) -> str:
        waiting.append(part)
        return marker

    text = json.dumps(value, indent=None if indent is None else INDENT, default=note)
    if indent:
        text = text.replace("\n", "\n" + " " * indent)
    first, *rest = text.split(f'"{marker}"')
    yield first
    line = first[first.rfind("\n") + 1 :]
    for part, after in zip(waiting, rest, strict=True):
        yield from part.pieces(None if indent is None else len(line) - len(line.lstrip(" ")) or indent)
        yield after
        line = after[after.rfind("\n") + 1 :] if "\n" in after else line


class ImageText:
    """The JSON of an image: {"magic": …, "entries": […]}, entry by entry.

        text = ImageText(out, pretty, {"magic": "CORE"})
        text.add(entry)
        text.end()
    """

    def __init__(self, out: Output, pretty: bool, head: dict[str, Any]) -> None:
        self._out = out
        self._outer = INDENT if pretty else None
        self._indent = 2 * INDENT if pretty else None
        self.between = "," + (_new_line(self._indent) or " ")
        self._count = 0
        keys = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        comma = "," + (_new_line(self._outer) or " ")
        out.text("{" + _new_line(self._outer) + comma.join([*keys, '"entries": [']))

    def add(self, entry: dict[str, Any]) -> None:
        """Write one entry."""
        self.add_text(dumped(entry, self._indent))

    def add_text(self, pieces: Iterable[str]) -> None:
        """Write entries that are JSON already, with `between` between them."""
        self._out.text(self.between if self._count else _new_line(self._indent))
        for piece in pieces:
            self._out.text(piece)
        self._count += 1

    def end(self) -> None:
        last = _new_line(self._outer) if self._count else ""
        self._out.text(last + "]" + ("" if self._outer is None else "\n") + "}\n")
