"""Mappings as they are made in a task, for kernels that this machine has not got."""

from __future__ import annotations

import platform
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import Problems
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


@pytest.mark.parametrize("known", [True, False])
def test_guard_regions_are_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, *, known: bool) -> None:
    monkeypatch.setattr(mm, "_knows_guards", lambda: known)
    layout = message("mm_entry")()
    layout.vmas.add(start=0x10000, end=0x20000, pgoff=0, shmid=0, prot=0, flags=0, status=vmas.GUARD, fd=-1)
    ctx = SimpleNamespace(problems=Problems(), check_path=lambda number, what: None)
    mm.check(SimpleNamespace(pid=7, mm=layout), ctx)  # type: ignore[arg-type]
    assert bool(ctx.problems.reasons) is not known


def test_what_kernels_know_by_their_release() -> None:
    release = tuple(int(number) for number in platform.release().split("-")[0].split(".")[:2])
    assert mm._knows_guards() == (release >= (6, 13))
    assert mm._knows_droppable() == (release >= (6, 11))
