"""What differs between two messages, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.crit.files import printable
from engine.images.schema import hints

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from google.protobuf.descriptor import FieldDescriptor

Message = Any

_LONGEST = 60


def fields(old: Message, new: Message, without: Container[str] = (), path: str = "") -> Iterator[str]:
    """ "so_linger was 0, is 5", for each field that differs. without: names of fields, at any depth, that do not
    count."""
    for field in old.DESCRIPTOR.fields:
        if field.name in without:
            continue
        name = f"{path}.{field.name}" if path else field.name
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.is_repeated:
            yield from _lists(field, list(before), list(after), without, name)
        elif old.HasField(field.name) != new.HasField(field.name):
            there, gone = (after, "is new") if new.HasField(field.name) else (before, "is gone")
            yield f"{name} {_text(field, there)} {gone}" if field.message_type is None else f"{name} {gone}"
        elif field.message_type is not None:
            yield from fields(before, after, without, name)
        elif before != after:
            yield f"{name} was {_text(field, before)}, is {_text(field, after)}"


def _lists(
    field: FieldDescriptor, before: list[Any], after: list[Any], without: Container[str], name: str
) -> Iterator[str]:
    if field.message_type is None:
        if before != after:
            shown = (_shortened(", ".join(_text(field, value) for value in values)) for values in (before, after))
            yield "{} was ({}), is ({})".format(name, *shown)
        return
    if len(before) != len(after):
        yield f"{name} had {len(before)} items, has {len(after)}"
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        yield from fields(one, other, without, f"{name}[{index}]")


def _text(field: FieldDescriptor, value: Any) -> str:
    if isinstance(value, bytes):
        return _shortened(value.hex() or "empty")
    if isinstance(value, str):
        return _shortened(printable(value))
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    marks = hints(field)
    return hex(value) if "hex" in marks or "flags" in marks else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
