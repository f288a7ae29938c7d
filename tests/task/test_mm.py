"""Mappings as they are made in a task, for kernels that this machine has not got."""

from __future__ import annotations

from typing import Any

import pytest

from engine.images.schema import message
from engine.task import mm
from engine.task import vma as vmas


class _Tape:
    """Remembers the flags of the mmaps that it is to play."""

    def __init__(self) -> None:
        self.flags: list[int] = []

    def call(self, name: str, *args: Any) -> None:
        assert name == "mmap"
        self.flags.append(args[3])


@pytest.mark.parametrize(("known", "kind"), [(True, vmas.MAP_DROPPABLE), (False, vmas.MAP_PRIVATE)])
def test_droppable_memory(monkeypatch: pytest.MonkeyPatch, *, known: bool, kind: int) -> None:
    monkeypatch.setattr(mm, "_knows_droppable", lambda: known)
    status = vmas.REGULAR | vmas.ANON_PRIVATE
    entry = message("vma_entry")(start=0x10000, end=0x20000, prot=3, flags=vmas.MAP_DROPPABLE, status=status, fd=-1)
    tape = _Tape()
    mm.map_area(tape, entry, -1, 3)  # type: ignore[arg-type]
    assert tape.flags == [kind | vmas.MAP_ANONYMOUS | vmas.MAP_FIXED]
