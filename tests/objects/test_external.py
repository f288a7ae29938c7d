"""The table of --inherit-fd: what it gives, and what is said about what it can't."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.objects import external
from engine.restore_context import RestoreContext

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle


def test_first_use_of_a_key_wins(cycle: Cycle) -> None:
    one, other = os.memfd_create("one"), os.memfd_create("other")
    cycle.opts.inherit_fd = [(one, "pipe:[7]"), (other, "pipe:[7]")]
    ctx = RestoreContext(cycle.opts, cycle.images)
    assert external.is_inherited(ctx, "a key of nobody", "pipe:[7]")
    copy = external.inherited(ctx, "pipe:[7]")
    assert copy is not None
    assert os.path.sameopenfile(copy, one)
    assert not os.get_inheritable(copy)
    assert not external.is_inherited(ctx, "pipe:[8]")
    assert external.inherited(ctx, "pipe:[8]") is None
    for fd in (one, other, copy):
        os.close(fd)


def test_descriptor_that_is_not_there(cycle: Cycle) -> None:
    cycle.opts.inherit_fd = [(987, "pipe:[7]")]
    ctx = RestoreContext(cycle.opts, cycle.images)
    external.check_descriptors(ctx)
    with pytest.raises(Refused, match=r"--inherit-fd fd\[987\]:pipe:\[7\]: Bad file descriptor"):
        ctx.problems.raise_if_any("restore")


def test_key_that_nothing_has(cycle: Cycle, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("engine.log.warn", said.append)
    cycle.opts.inherit_fd = [(0, "pipe:[7]"), (0, "pipe:[8]")]
    ctx = RestoreContext(cycle.opts, cycle.images)
    external.is_inherited(ctx, "pipe:[8]")
    external.warn_unclaimed(ctx)
    assert said == ["--inherit-fd fd[0]:pipe:[7]: the images have nothing of that key"]
