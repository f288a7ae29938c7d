"""File names in string fields.

The images declare names as strings, but a name may hold any byte. C writers put it there as it is, and so do we; the
Python protobuf refuses to assign what is no UTF-8, takes it when it merges serialised bytes, and then hands it out as
bytes. Inside the engine names are what os.fsdecode makes of them.
"""

from __future__ import annotations

import os

from engine.images.wire import varint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LENGTH_DELIMITED = 2


def set_text(message: Any, field: str, text: str) -> None:
    """Set a string field to a text as os.fsdecode makes it, or append that if the field is repeated."""
    try:
        if message.DESCRIPTOR.fields_by_name[field].is_repeated:
            getattr(message, field).append(text)
        else:
            setattr(message, field, text)
    except UnicodeError:
        number = message.DESCRIPTOR.fields_by_name[field].number
        data = os.fsencode(text)
        message.MergeFromString(varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data)


def get_text(value: str | bytes) -> str:
    """The value of a string field as os.fsdecode makes it."""
    return value if isinstance(value, str) else os.fsdecode(value)
