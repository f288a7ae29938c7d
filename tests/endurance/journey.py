"""There and back, in a ward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile import ward
from tests.waiting import wait_until
from zdtm.harness.init import others

if TYPE_CHECKING:
    from pathlib import Path


def there_and_back(pid: int, images: Path) -> None:
    """Dump the tree of `pid`, the only one in the ward, see it gone, and restore it."""
    for words in (["dump", "-t", str(pid), "-D", str(images)], ["restore", "-d", "-D", str(images)]):
        outcome = ward.command(*words, watched=False)
        assert outcome.status == 0, outcome.log
        if words[0] == "dump":
            wait_until(_alone, "nothing of the tree is left")


def _alone() -> bool:
    ward.reap()
    return not others()
