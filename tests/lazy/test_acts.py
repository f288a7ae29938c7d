"""Whatever a task does with memory that has not come yet, it never sees another content than it had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lazy.conftest import Lazy

ACTS = (
    "read_all", "read_sparse", "write_every_second", "fork_deep", "drop", "move", "map_anew", "protect", "not_forked",
    "threads", "leave", "write_to_pipe",
)  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
def test_act(lazy: Lazy, act: str) -> None:
    """The daemon stands still when the act begins: its first touch waits."""
    lazy.start(act)
    lazy.dump()
    lazy.serve()
    lazy.restore_held()
    lazy.act()
    lazy.go_on()
    lazy.check_result()
    lazy.check_served()
