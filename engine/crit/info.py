"""crucible crit info: which kind of image a file is, and how many entries it has."""

from __future__ import annotations

from engine.crit.files import Output
from engine.crit.identify import magic_name, open_image
from engine.crit.payloads import Decoder
from engine.images import magic
from engine.images.runs import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.images.reader import ImageReader

_WINDOW = 256 << 10


def info(path: str | None) -> None:
    """Print it as JSON. path: None for standard input. CrError: it is no image, or a damaged one."""
    import json

    with open_image(path) as reader, Output(None) as out:
        found = {"magic": magic_name(reader.kind)}
        out.text(json.dumps({**found, "count": _count(reader)}, indent=4) + "\n")


def _count(reader: ImageReader) -> int:
    """Entries, the head of a page map not among them; of a raw image, its bytes are one."""
    if reader.kind.framing != magic.HEAD_ARRAY:
        return sum(1 for _ in Decoder(reader, pretty=False, with_payload=False).entries())
    next(reader)
    count = 0
    while reader.left:
        end, vaddr, _, _ = parse(reader.peek(_WINDOW), exact=False)
        reader.skip(end)
        count += len(vaddr)
        if not end:
            count += sum(1 for _, _ in zip(range(1000), reader, strict=False))
    return count
