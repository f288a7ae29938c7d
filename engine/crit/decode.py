"""crucible crit decode: an image as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.crit.files import Output
from engine.crit.identify import magic_name, open_image
from engine.crit.page_entries import add_entries
from engine.crit.payloads import Decoder
from engine.crit.streamed import ImageText
from engine.images import magic

if TYPE_CHECKING:
    from engine.images.reader import ImageReader

VERSION = "img_version"
_OLD = 1


def decode(path: str | None, target: str | None, pretty: bool = False, with_payload: bool = True) -> None:
    """path, target: files, None for standard input and output. pretty: for people. CrError: it is no image, a damaged
    one, or can't be read or written."""
    with open_image(path) as reader, Output(target) as out:
        text = ImageText(out, pretty, _head(reader))
        if reader.kind.framing == magic.HEAD_ARRAY:
            add_entries(reader, text, pretty)
        else:
            for entry in Decoder(reader, pretty, with_payload).entries():
                text.add(entry)
        text.end()


def _head(reader: ImageReader) -> dict[str, Any]:
    """The magic by name, and the version of the format if it is the old one, without the common first magic."""
    head: dict[str, Any] = {"magic": magic_name(reader.kind)}
    if reader.kind.prefix is not None and reader.offset == 4:
        head[VERSION] = _OLD
    return head
