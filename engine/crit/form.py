"""Messages as JSON and back: the form that the field's tool gives them.

Names of fields in the order of their numbers; names of enums; bytes as base64 in lines of 76. A field may be marked
(proto/opts.proto) to be shown to people in another way, in hex for example: that is the pretty form. Both are read.

What protobuf would forget stands under two names of ours, so that an image comes out byte for byte as it was:

    "@unknown"  base64 of the fields of a message that the schema does not know
    "@wire"     base64 of a whole entry that is written in another way than protobuf writes it, fields out of order for
                example; it counts as long as nothing else in the entry has been changed

Names and texts that are no UTF-8 have the bytes concerned as \\udcXX, as Python's surrogateescape has them.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from engine.crit import names
from engine.crit.files import unpack_base64
from engine.images.schema import hints, message
from engine.images.text import get_text, set_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, FieldDescriptor

    Show = Callable[[Any], Any]

Message = Any

UNKNOWN, WIRE = "@unknown", "@wire"
_KEPT = (UNKNOWN, WIRE)
_IP_WORDS = (1, 4)
_DEV_MINOR_BITS = 20


def to_json(entry: Message, raw: bytes, pretty: bool) -> dict[str, Any]:
    """An entry as a dictionary. raw: its bytes in the image."""
    bare = type(entry)()
    bare.CopyFrom(entry)
    bare.DiscardUnknownFields()
    value = _show(entry, pretty, False, bare.ByteSize() != entry.ByteSize())
    if entry.SerializeToString() != raw:
        value[WIRE] = _base64(raw)
    return value


def from_json(name: str, value: Any) -> bytes:
    """The bytes of an entry. name: of its message. ValueError: what is wrong about it, and where."""
    entry = message(name)()
    _fill(entry, value, "")
    if not entry.IsInitialized():
        raise ValueError(f"a {name} lacks {', '.join(entry.FindInitializationErrors())}")
    data: bytes = entry.SerializeToString()
    if WIRE in value:
        raw = unpack_base64(value[WIRE])
        if _same(name, raw, data):
            return raw
    return data


def _same(name: str, raw: bytes, data: bytes) -> bool:
    """Whether bytes written in some way say what data says."""
    from google.protobuf.message import DecodeError

    try:
        return bool(message(name).FromString(raw).SerializePartialToString() == data)
    except DecodeError:
        return False


# Showing


def _show(entry: Message, pretty: bool, hexed: bool, has_unknown: bool) -> dict[str, Any]:
    """hexed: whether the message is in a field that is marked hex. has_unknown: whether to look for unknown fields."""
    shows = _shows(entry.DESCRIPTOR, pretty, hexed)
    value: dict[str, Any] = {}
    for field, content in entry.ListFields():
        show = shows[field.number]
        if field.message_type is not None:
            nested = partial(_show, pretty=pretty, hexed=show is not None, has_unknown=has_unknown)
            value[field.name] = [nested(part) for part in content] if field.is_repeated else nested(content)
        elif not field.is_repeated:
            value[field.name] = content if show is None else show(content)
        elif pretty and hints(field).get("ipadd") and len(content) in _IP_WORDS:
            value[field.name] = [_address(content)]
        else:
            value[field.name] = list(content) if show is None else [show(part) for part in content]
    if has_unknown and (unknown := _unknown(entry)):
        value[UNKNOWN] = _base64(unknown)
    return value


@cache
def _shows(descriptor: Descriptor, pretty: bool, hexed: bool) -> dict[int, Show | None]:
    """For each field, by its number, what makes JSON of a value; None: it is JSON. For messages: whether hexed."""
    return {field.number: _show_of(field, pretty, hexed) for field in descriptor.fields}


def _show_of(field: FieldDescriptor, pretty: bool, hexed: bool) -> Show | None:
    marks = hints(field)
    if field.message_type is not None:
        return hex if hexed or marks.get("hex") else None
    if field.type == field.TYPE_BYTES:
        return _quoted if marks.get("conv") == "unix_name" else _base64
    if field.type == field.TYPE_STRING:
        return get_text
    if field.enum_type is not None:
        return {value.number: value.name for value in field.enum_type.values}.__getitem__
    if not pretty or field.type == field.TYPE_BOOL:
        return None
    if hexed or marks.get("hex"):
        return hex
    return _marked(field, marks)


def _marked(field: FieldDescriptor, marks: dict[str, Any]) -> Show | None:
    """The other markings of numbers."""
    if marks.get("dev"):
        return lambda value: f"{value >> _DEV_MINOR_BITS}:{value & (1 << _DEV_MINOR_BITS) - 1}"
    if marks.get("odev"):
        import os

        return lambda value: f"{os.major(value)}:{os.minor(value)}"
    if "flags" in marks:
        return partial(names.flags_to_text, of=names.FLAGS[marks["flags"]])
    if "dict" in marks:
        known = names.VALUES[f"{marks['dict']}.{field.name}"]
        return lambda value: known.get(value, value)
    return None


def _base64(data: bytes) -> str:
    from binascii import b2a_base64

    return "".join(b2a_base64(data[at : at + 57]).decode() for at in range(0, len(data), 57))


def _quoted(data: bytes) -> str:
    """Quoted-printable. Not for text: line ends would not come back as they were."""
    from binascii import b2a_qp

    return b2a_qp(data, istext=False).decode()


def _address(words: Any) -> str:
    """An internet address: its words are as they lie in memory, in network order."""
    import ipaddress

    return str(ipaddress.ip_address(b"".join(word.to_bytes(4, "little") for word in words)))


def _unknown(entry: Message) -> bytes:
    """The unknown fields of a message itself, as they were read: what stays when all others are cleared."""
    bare = type(entry)()
    bare.CopyFrom(entry)
    for field, _ in entry.ListFields():
        bare.ClearField(field.name)
    data: bytes = bare.SerializePartialToString()
    return data


# Reading


def _fill(entry: Message, value: Any, where: str) -> None:
    """Set the fields of a message. where: the path to it, for errors."""
    if not isinstance(value, dict):
        raise _Misplaced(f"{where or 'the entry'} is {type(value).__name__}, it must be an object")
    fields = entry.DESCRIPTOR.fields_by_name
    for name, content in value.items():
        if name in _KEPT:
            continue
        path = f"{where}.{name}" if where else name
        field = fields.get(name)
        if field is None:
            raise _Misplaced(f"a {entry.DESCRIPTOR.name} has no field {path}")
        try:
            _set(entry, field, content, path)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise error if isinstance(error, _Misplaced) else _Misplaced(f"{path}: {error}") from None
    if UNKNOWN in value:
        _merge(entry, unpack_base64(value[UNKNOWN]), where)


class _Misplaced(ValueError):
    """An error that says where it is."""


def _merge(entry: Message, unknown: bytes, where: str) -> None:
    from google.protobuf.message import DecodeError

    try:
        entry.MergeFromString(unknown)
    except DecodeError as error:
        raise _Misplaced(f"{where or 'the entry'}: {UNKNOWN} is no protobuf ({error})") from None


def _set(entry: Message, field: FieldDescriptor, content: Any, path: str) -> None:
    if field.message_type is not None:
        for part in content if field.is_repeated else [content]:
            target = getattr(entry, field.name)
            target = target.add() if field.is_repeated else target
            target.SetInParent()
            _fill(target, part, path)
    elif not field.is_repeated:
        _put(entry, field, _read(field, content))
    elif not isinstance(content, list):
        raise ValueError("it must be a list")
    else:
        for part in _words(content) if hints(field).get("ipadd") else content:
            _put(entry, field, _read(field, part))


def _put(entry: Message, field: FieldDescriptor, value: Any) -> None:
    if field.type == field.TYPE_STRING:
        set_text(entry, field.name, value)
    elif field.is_repeated:
        getattr(entry, field.name).append(value)
    else:
        setattr(entry, field.name, value)


def _read(field: FieldDescriptor, content: Any) -> Any:
    """The value of a field, from any of its forms."""
    if field.type == field.TYPE_BYTES:
        if hints(field).get("conv") == "unix_name":
            from binascii import a2b_qp

            return a2b_qp(content)
        return unpack_base64(content)
    if field.type == field.TYPE_STRING:
        if not isinstance(content, str):
            raise ValueError("it must be a string")
        return content
    if field.enum_type is not None and isinstance(content, str):
        if content not in field.enum_type.values_by_name:
            raise ValueError(f"{content} is none of {', '.join(field.enum_type.values_by_name)}")
        return field.enum_type.values_by_name[content].number
    if isinstance(content, str):
        return _read_number(content, field)
    return content


def _read_number(text: str, field: FieldDescriptor) -> int:
    marks = hints(field)
    if "flags" in marks:
        return names.flags_from_text(text, names.FLAGS[marks["flags"]])
    if "dict" in marks:
        return names.value_from_text(text, f"{marks['dict']}.{field.name}")
    if (marks.get("dev") or marks.get("odev")) and ":" in text:
        import os

        major, minor = (int(part) for part in text.split(":"))
        return major << _DEV_MINOR_BITS | minor if marks.get("dev") else os.makedev(major, minor)
    return int(text, 0)


def _words(content: list[Any]) -> list[Any]:
    """The words of an internet address, if the list is one."""
    if len(content) != 1 or not isinstance(content[0], str):
        return content
    import ipaddress

    packed = ipaddress.ip_address(content[0]).packed
    return [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]
