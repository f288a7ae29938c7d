"""Which kind of image a file is."""

from __future__ import annotations

import os
import re
from functools import cache

from engine.crit.files import open_input
from engine.errors import CrError
from engine.images import magic
from engine.images.magic import BY_MAGIC, KINDS, Kind
from engine.images.reader import ImageReader

_CONVERSIONS = {"%u": r"\d+", "%d": r"\d+", "%x": r"[0-9a-f]+", "%s": "(?:dump|restore)"}


def open_image(path: str | None) -> ImageReader:
    """A reader for a file, None: standard input, of whatever kind it is. Raw images have no magic and are known by
    their names, all others by their magic. CrError: it is none, or can't be read."""
    fd = open_input(path)
    name = path or "standard input"
    try:
        kind = _kind_of(fd, name)
    except BaseException:
        os.close(fd)
        raise
    return ImageReader(fd, kind, name)


def _kind_of(fd: int, path: str) -> Kind:
    named = by_name(os.path.basename(path))
    if named is not None and named.magic is None:
        return named
    start = os.pread(fd, 8, 0)
    first, second = (int.from_bytes(start[at : at + 4], "little") for at in (0, 4))
    known = _with_entries(second if first in (magic.COMMON, magic.SERVICE) else first)
    if named is not None and (named in known or not known):
        return named
    if known:
        return known[0]
    if len(start) < 4:
        raise CrError(f"{path}: it has {len(start)} bytes, no image is that short")
    raw = ", ".join(kind.pattern for kind in KINDS.values() if kind.magic is None and kind.status == magic.CURRENT)
    raise CrError(f"{path}: its magic is {first:#x}, no kind of image has that; raw images are known by name: {raw}")


def _with_entries(number: int) -> list[Kind]:
    return [kind for kind in BY_MAGIC.get(number, ()) if kind.framing != magic.RAW_MAGIC]


def magic_name(kind: Kind) -> str:
    """What a kind is called in JSON: by its magic, which page maps of tasks and of shared memory have in common."""
    return kind.name if kind.magic is None else _with_entries(kind.magic)[0].name


def by_name(name: str) -> Kind | None:
    """The kind that has files of this name."""
    return next((kind for pattern, kind in _patterns() if pattern.fullmatch(name)), None)


@cache
def _patterns() -> list[tuple[re.Pattern[str], Kind]]:
    """Names as regular expressions, in the order of the table. Files of pages have had a magic before any version."""
    kinds = [kind for kind in KINDS.values() if kind.framing != magic.RAW_MAGIC]
    return [(re.compile(_expression(kind.pattern)), kind) for kind in kinds]


def _expression(pattern: str) -> str:
    parts = re.split("(%[udxs])", pattern)
    return "".join(_CONVERSIONS.get(part) or re.escape(part) for part in parts)
