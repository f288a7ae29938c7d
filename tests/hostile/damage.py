"""What can be wrong with images. Every damage is a change of one or more files of a set, given as all their bytes.

    truncated, replaced   a file that ends early; is gone, empty, of another kind, a symlink
    flipped               a bit of a file is another one
    lies                  a field of a message says something else, and all else is as it was
"""

from __future__ import annotations

import copy
import random
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.images import magic
from engine.images.magic import KINDS
from engine.images.schema import message
from tests.hostile.trial import Damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Images = dict[str, bytes]

_EVERY_BYTE = 48
_SOME = 12
_FLIPS = 12


def truncated(images: Images) -> Iterator[Damage]:
    """Every file ends early: a short one at every byte, a long one at some, at the borders of pages among them."""
    for name, content in images.items():
        size = len(content)
        offsets = range(size) if size <= _EVERY_BYTE else {*range(9), *range(0, size, size // _SOME), size - 1}
        if name.startswith("pages-"):
            offsets = {0, 1, size // 2 & ~4095, size - 4096, size - 1}
        for offset in sorted(offsets):
            yield Damage(f"{name} ends at byte {offset} of {size}", {name: content[:offset]})


def replaced(images: Images) -> Iterator[Damage]:
    """Every file is gone, or is something else."""
    names = list(images)
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        yield Damage(f"{name} is gone", {name: None})
        yield Damage(f"{name} is {following}", {name: images[following]})
        yield Damage(f"{name} is a symlink", {name: f"../whole/{name}"})
        yield Damage(f"{name} has one byte more", {name: images[name] + b"\1"})
        yield Damage(f"{name} is there twice in one", {name: images[name] * 2})


def flipped(images: Images) -> Iterator[Damage]:
    """In every file, one bit is another: some for each file."""
    for name, content in images.items():
        if name.startswith("pages-"):
            continue
        source = random.Random(name)
        for _ in range(_FLIPS):
            position, bit = source.randrange(len(content)), source.randrange(8)
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            yield Damage(f"bit {bit} of byte {position} of {name}", {name: bytes(changed)})


class Image(NamedTuple):
    """A decoded file: its messages, and the bytes that follow each."""

    name: str
    kind: magic.Kind
    entries: list[Any]
    payloads: list[bytes]

    def encode(self) -> bytes:
        """The file."""
        parts = [self.kind.header]
        for entry, payload in zip(self.entries, self.payloads, strict=True):
            data = entry.SerializePartialToString()
            parts += [len(data).to_bytes(4, "little"), data, payload]
        return b"".join(parts)


def decode(name: str, content: bytes) -> Image | None:
    """A file as messages; None: it has none."""
    for kind in KINDS.values():
        pattern = re.escape(kind.pattern).replace("%u", r"\d+").replace("%x", "[0-9a-f]+")
        if kind.status == magic.CURRENT and kind.messages and re.fullmatch(pattern, name):
            return _decode(name, kind, content)
    return None


_PAYLOAD_FIELDS = {"PIPES_DATA": "bytes", "FIFO_DATA": "bytes", "SK_QUEUES": "length"}


def _decode(name: str, kind: magic.Kind, content: bytes) -> Image:
    image = Image(name, kind, [], [])
    position = len(kind.header)
    while position < len(content):
        size = int.from_bytes(content[position : position + 4], "little")
        entry = message(kind.messages[min(len(image.entries), len(kind.messages) - 1)])()
        entry.ParseFromString(content[position + 4 : position + 4 + size])
        position += 4 + size
        length = 0
        if kind.name in _PAYLOAD_FIELDS:
            length = getattr(entry, _PAYLOAD_FIELDS[kind.name])
        elif kind.name == "GHOST_FILE":
            length = (entry.len if image.entries else 0) if image.entries or entry.chunks else len(content) - position
        image.entries.append(entry)
        image.payloads.append(content[position : position + length])
        position += length
    return image


def lies(images: Images) -> Iterator[Damage]:
    """Every field of every kind of message says something else, one at a time."""
    for name, content in images.items():
        image = decode(name, content)
        if image is None:
            continue
        yield from _changed_lists(image)
        for index in _picked(image.entries):
            for path, change in changes(image.entries[index]):
                entries = list(image.entries)
                entries[index] = copy.deepcopy(entries[index])
                try:
                    change(entries[index])
                    data = image._replace(entries=entries).encode()
                except (ValueError, TypeError):
                    continue
                if data != content:
                    yield Damage(f"{name}: entry {index}: {path}", {name: data})


def _changed_lists(image: Image) -> Iterator[Damage]:
    """An entry is missing, is there twice, or has changed places."""
    for index in range(len(image.entries)):
        kept = [n for n in range(len(image.entries)) if n != index]
        for what, order in (
            ("missing", kept),
            ("doubled", [*range(index + 1), *range(index, len(image.entries))]),
            ("last", [*kept, index]),
        ):
            changed = image._replace(
                entries=[image.entries[n] for n in order], payloads=[image.payloads[n] for n in order]
            )
            yield Damage(f"{image.name}: entry {index} is {what}", {image.name: changed.encode()})


def _picked(entries: Any) -> list[int]:
    """Of many entries the first of each size, which are those that differ most, and the last."""
    sizes: dict[int, int] = {}
    for index, entry in enumerate(entries):
        sizes.setdefault(entry.ByteSize(), index)
    return sorted({*list(sizes.values())[:_SOME * 3], len(entries) - 1})


Change = tuple[str, "Callable[[Any], None]"]
_INTEGERS = {
    "INT32": (0, 1, -1, 1 << 31, (1 << 31) - 1),
    "INT64": (0, 1, -1, -1 << 63, (1 << 63) - 1),
    "UINT32": (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 22),
    "UINT64": (0, 1, 4096, 1 << 32, 1 << 47, 0x7FFFFFFFFFFFFFFF, 1 << 63, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFF000),
}
_STEPS = (1, -1, 4096)
_TEXTS = ("", "/", "../../elsewhere/new", "/a/../../elsewhere/new", "a\0b", "/nul\0", "x" * 300, "/y" * 3000)
_BYTES = (b"", b"\0", b"\0" * 300, b"../../elsewhere/new", b"/dir/../x", b"\xff" * 8, b"/a\0b\0", b"z" * 5000)


def changes(entry: Any) -> Iterator[Change]:
    """Everything to be done to one message: (what, function that does it to a copy)."""
    for field in entry.DESCRIPTOR.fields:
        if _is_repeated(field):
            yield from _of_list(entry, field)
        elif field.message_type is not None:
            if entry.HasField(field.name):
                yield f"{field.name} cleared", lambda to, name=field.name: to.ClearField(name)
                for path, change in changes(getattr(entry, field.name)):
                    yield f"{field.name}.{path}", lambda to, n=field.name, c=change: c(getattr(to, n))
            else:
                yield f"{field.name} there", lambda to, name=field.name: getattr(to, name).SetInParent()
        else:
            if entry.HasField(field.name):
                yield f"{field.name} cleared", lambda to, name=field.name: to.ClearField(name)
            for value in values(field, getattr(entry, field.name)):
                yield f"{field.name}={_shown(value)}", lambda to, n=field.name, v=value: setattr(to, n, v)


def _is_repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _shown(value: Any) -> str:
    return f"{value!r:.40}" if not isinstance(value, int) else hex(value)


def values(field: Any, now: Any) -> list[Any]:
    """What else a scalar could be."""
    kind = field.type
    if kind == field.TYPE_BOOL:
        return [not now]
    if kind == field.TYPE_STRING:
        return list(_TEXTS)
    if kind == field.TYPE_BYTES:
        return [*_BYTES, now * 2, now[:-1]]
    if kind == field.TYPE_ENUM:
        return [value.number for value in field.enum_type.values if value.number != now]
    signed = kind in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_INT64, field.TYPE_SINT64, field.TYPE_SFIXED64)
    wide = kind not in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_UINT32, field.TYPE_FIXED32)
    extremes = _INTEGERS[("INT" if signed else "UINT") + ("64" if wide else "32")]
    return [value for value in dict.fromkeys((*extremes, *(now + step for step in _STEPS))) if value != now]


def _of_list(entry: Any, field: Any) -> Iterator[Change]:
    name, items = field.name, getattr(entry, field.name)

    def multiply(to: Any, times: int) -> None:
        own = getattr(to, name)
        own.extend([copy.deepcopy(item) for _ in range(times - 1) for item in own])

    if not items:
        if field.message_type is not None:
            yield f"{name} has an empty item", lambda to: getattr(to, name).add()
        else:
            for value in values(field, field.default_value or 0)[:3] if not field.default_value else ():
                yield f"{name} has {_shown(value)}", lambda to, v=value: getattr(to, name).append(v)
        return
    yield f"{name} emptied", lambda to: to.ClearField(name)
    yield f"{name} without its last", lambda to: getattr(to, name).pop()
    yield f"{name} twice", lambda to: multiply(to, 2)
    if len(items) < 1000:
        yield f"{name} many times", lambda to: multiply(to, 1 + 70000 // len(items))
    if field.message_type is None:
        for value in values(field, items[0]):
            yield f"{name}[0]={_shown(value)}", lambda to, v=value: getattr(to, name).__setitem__(0, v)
        return
    for index in _picked(items):
        for path, change in changes(items[index]):
            yield f"{name}[{index}].{path}", lambda to, i=index, c=change: c(getattr(to, name)[i])
