"""The tree stands where it was dumped until its memory has been fetched, and never runs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lazy.conftest import Lazy


@pytest.mark.parametrize("act", ["read_all", "fork_deep", "move", "drop", "threads"])
def test_act(lazy: Lazy, act: str) -> None:
    lazy.hand_over(act)
    assert lazy.source.poll() is None
    lazy.act()
    lazy.go_on()
    lazy.check_result()
    lazy.check_served()
    assert lazy.source.wait(30) == 0, lazy.log("dump")
    assert lazy.has_ended(), "the tree that was dumped runs on"
