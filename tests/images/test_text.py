"""File names in string fields: any bytes, there and back."""

from __future__ import annotations

import pytest

from engine.images.schema import message
from engine.images.text import get_text, set_text


@pytest.mark.parametrize("name", ["/plain", "/n\u00e4me", "/not \udcff utf-8", "/" + "\udc80" * 300, ""])
def test_any_name(name: str) -> None:
    entry = message("reg_file_entry")(id=7, flags=1)
    set_text(entry, "name", "overwritten")
    set_text(entry, "name", name)
    again = message("reg_file_entry")()
    again.MergeFromString(entry.SerializePartialToString())
    assert get_text(again.name) == name
    assert (again.id, again.flags) == (7, 1)
