"""What can be wrong with images.

    truncated, replaced   a file that ends early; is gone, of another kind, a symlink
    flipped               a bit of a file is another one
    lies                  a field of a message says something else, and all else is as it was. Several lies can be told
                          at once: see told()
"""

from __future__ import annotations

import copy
import random
import re
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from engine.images import magic
from engine.images.magic import KINDS
from engine.images.schema import message
from tests.hostile.trial import Damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Images = dict[str, bytes]

_EVERY_BYTE = 48
_SOME = 12
_FLIPS = 12
_MANY, _VERY_MANY = 1000, 70000


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
    """A decoded file: its messages, and the bytes that follow each; none where there are no more payloads."""

    kind: magic.Kind
    entries: list[Any]
    payloads: list[bytes]

    def encode(self) -> bytes:
        """The file."""
        parts = [self.kind.header]
        payloads = chain(self.payloads, repeat(b""))
        for entry, payload in zip(self.entries, payloads, strict=False):
            data = entry.SerializePartialToString()
            parts += [len(data).to_bytes(4, "little"), data, payload]
        return b"".join(parts)


def decode(name: str, content: bytes) -> Image | None:
    """A file as messages; None: it has none."""
    for kind in KINDS.values():
        pattern = re.escape(kind.pattern).replace("%u", r"\d+").replace("%x", "[0-9a-f]+")
        if kind.status == magic.CURRENT and kind.messages and re.fullmatch(pattern, name):
            return _decode(kind, content)
    return None


_PAYLOAD_FIELDS = {"PIPES_DATA": "bytes", "FIFO_DATA": "bytes", "SK_QUEUES": "length"}


def _decode(kind: magic.Kind, content: bytes) -> Image:
    image = Image(kind, [], [])
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


class Lie(NamedTuple):
    """Something that an image says instead of what is true. tell: changes a decoded image."""

    what: str
    name: str
    tell: Callable[[Image], None]


def told(images: Images, told_lies: Iterable[Lie]) -> Damage:
    """The files in which these lies are told, one after the other. One that has become impossible is left out."""
    changed: dict[str, Image] = {}
    for lie in told_lies:
        image = changed.get(lie.name) or decode(lie.name, images[lie.name])
        assert image is not None
        changed[lie.name] = image
        try:
            lie.tell(image)
        except (ValueError, TypeError, IndexError):
            continue  # what it is about is gone, or the field can't hold the value
    what = " and ".join(f"{lie.name}: {lie.what}" for lie in told_lies)
    return Damage(what, {name: image.encode() for name, image in changed.items()})


def lies(images: Images) -> Iterator[Lie]:
    """Every field of every kind of message says something else."""
    for name, content in images.items():
        image = decode(name, content)
        if image is None:
            continue
        for index in range(len(image.entries)):
            for what, tell in _LISTS:
                yield Lie(f"entry {index} {what}", name, partial(tell, index))
        for index in _picked(image.entries):
            for what, change in changes(image.entries[index]):
                yield Lie(f"entry {index}: {what}", name, partial(_change_entry, index, change))


def _change_entry(index: int, change: Callable[[Any], None], image: Image) -> None:
    change(image.entries[index])


def _lose(index: int, image: Image) -> None:
    del image.entries[index], image.payloads[index]


def _double(index: int, image: Image) -> None:
    image.entries.insert(index, image.entries[index])
    image.payloads.insert(index, image.payloads[index])


def _put_last(index: int, image: Image) -> None:
    image.entries.append(image.entries.pop(index))
    image.payloads.append(image.payloads.pop(index))


_LISTS = (("is missing", _lose), ("is there twice", _double), ("is last", _put_last))


def _picked(entries: Any) -> list[int]:
    """Of many entries the first of each size, which are those that differ most, and the last."""
    sizes: dict[int, int] = {}
    for index, entry in enumerate(entries):
        sizes.setdefault(entry.ByteSize(), index)
    return sorted({*list(sizes.values())[:_SOME * 3], len(entries) - 1})


if TYPE_CHECKING:
    Change = tuple[str, Callable[[Any], None]]

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
    """Everything to be done to one message: (what, function that does it to one like it)."""
    for field in entry.DESCRIPTOR.fields:
        name, is_there = field.name, not field.is_repeated and entry.HasField(field.name)
        if is_there:
            yield f"{name} cleared", methodcaller("ClearField", name)
        if field.is_repeated:
            yield from _of_list(entry, field)
        elif field.message_type is None:
            for value in values(field, getattr(entry, name)):
                yield f"{name}={_shown(value)}", partial(_set, name, value)
        elif is_there:
            for what, change in changes(getattr(entry, name)):
                yield f"{name}.{what}", partial(_inside, attrgetter(name), change)
        else:
            yield f"{name} there", partial(_inside, attrgetter(name), methodcaller("SetInParent"))


def _set(name: str, value: Any, entry: Any) -> None:
    setattr(entry, name, value)


def _inside(part: Callable[[Any], Any], change: Callable[[Any], None], entry: Any) -> None:
    change(part(entry))


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
    if not items:
        if field.message_type is not None:
            yield f"{name} has an empty item", partial(_inside, attrgetter(name), methodcaller("add"))
        for value in values(field, _ZERO.get(field.type, 0))[:3] if field.message_type is None else ():
            yield f"{name} has {_shown(value)}", partial(_inside, attrgetter(name), methodcaller("append", value))
        return
    yield f"{name} emptied", methodcaller("ClearField", name)
    yield f"{name} without its last", partial(_inside, attrgetter(name), methodcaller("pop"))
    yield f"{name} twice", partial(_multiply, name, 2)
    if len(items) < _MANY:
        yield f"{name} many times", partial(_multiply, name, 1 + _VERY_MANY // len(items))
    if field.message_type is None:
        for value in values(field, items[0]):
            yield f"{name}[0]={_shown(value)}", partial(_inside, attrgetter(name), partial(_set_item, 0, value))
        return
    for index in _picked(items):
        for what, change in changes(items[index]):
            yield f"{name}[{index}].{what}", partial(_inside, attrgetter(name), partial(_in_item, index, change))


_ZERO: dict[int, object] = {FieldDescriptor.TYPE_STRING: "", FieldDescriptor.TYPE_BYTES: b""}


def _multiply(name: str, times: int, entry: Any) -> None:
    items = getattr(entry, name)
    if times * len(items) > 2 * _VERY_MANY:
        raise ValueError(f"{name} has become long by another lie")
    items.extend([copy.copy(item) for _ in range(times - 1) for item in items])


def _set_item(index: int, value: Any, items: Any) -> None:
    items[index] = value


def _in_item(index: int, change: Callable[[Any], None], items: Any) -> None:
    change(items[index])
