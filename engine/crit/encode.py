"""crucible crit encode: JSON as an image, the way back from decode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.crit.decode import VERSION
from engine.crit.encoder import Encoder
from engine.crit.files import Output, open_input
from engine.crit.json_stream import JsonStream
from engine.crit.payloads import EXTRA
from engine.errors import CrError
from engine.images.magic import KINDS, RAW_MAGIC

if TYPE_CHECKING:
    from engine.images.magic import Kind

_ENTRIES = "entries"
_VERSIONS = (None, 1, 2)


def encode(path: str | None, target: str | None) -> None:
    """path, target: files, None for standard input and output. CrError: it is no JSON of an image, or can't be read or
    written."""
    name = path or "standard input"
    fd = open_input(path)
    try:
        kind, version = _head(JsonStream(fd, name))
        with Output(target) as out:
            encoder = Encoder(out, kind, old=version == 1)
            _write(JsonStream(fd, name), encoder)
    finally:
        os.close(fd)


def _head(stream: JsonStream) -> tuple[Kind, int | None]:
    """Kind and version. They come first in what decode writes, and anywhere in what other tools make of it."""
    found: dict[str, Any] = {}
    has_entries = False
    for key in stream.names():
        if key == _ENTRIES:
            has_entries = True
            if "magic" in found:
                break
            for _ in stream.elements():
                stream.entry(EXTRA)
        else:
            found[key] = stream.value()
    kind, version = KINDS.get(str(found.get("magic"))), found.get(VERSION)
    if kind is None or kind.framing == RAW_MAGIC or not has_entries:
        raise stream.error('this is no image: an object with the name of its kind as "magic", and a list "entries"')
    if version not in _VERSIONS:
        raise stream.error(f"images of version {version!r} are not known")
    return kind, version


def _write(stream: JsonStream, encoder: Encoder) -> None:
    for key in stream.names():
        if key != _ENTRIES:
            stream.value()
            continue
        for _ in stream.elements():
            entry = stream.entry(EXTRA)
            try:
                encoder.add(entry)
            except (ValueError, TypeError, RecursionError) as error:
                what = "it is nested too deeply" if isinstance(error, RecursionError) else error
                raise stream.error(f"entry {encoder.count}: {what}") from None
        try:
            encoder.end()
        except ValueError as error:
            raise CrError(f"{stream.name}: {error}") from None
    stream.end()
