"""Images that are damaged, or lie: a restore either works or says what is wrong, and that is all it does.

CI tries some thousand, always the same. HOSTILE_TRIALS=100000 tries all there are, which takes half an hour.
"""

from __future__ import annotations

import os
import random
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hostile import damage, ward
from tests.hostile.trial import Trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import TypeVar

    from tests.hostile.damage import Images
    from tests.hostile.trial import Damage

    _Any = TypeVar("_Any")

_TRIALS = int(os.environ.get("HOSTILE_TRIALS", "240"))
"""Of each kind."""
_DEADLINE = 3600


def _on_disk(images: Images) -> Iterable[Damage]:
    return chain(damage.truncated(images), damage.flipped(images))


def _some(every: Iterable[_Any]) -> list[_Any]:
    """As many as there is time for, from everywhere."""
    listed = list(every)
    return random.Random(len(listed)).sample(listed, min(_TRIALS, len(listed)))


def _try(tmp_path: Path, choose: Callable[[Images], Iterable[Damage]]) -> None:
    def try_all(place: Path) -> str:
        trials = Trials(place)
        return "\n".join(filter(None, map(trials.problem, choose(trials.images))))

    ward.inside(tmp_path, try_all, _DEADLINE)


@pytest.mark.parametrize("kind", [_on_disk, damage.replaced])
def test_damage(tmp_path: Path, kind: Callable[[Images], Iterable[Damage]]) -> None:
    _try(tmp_path, lambda images: _some(kind(images)))


def test_lie(tmp_path: Path) -> None:
    _try(tmp_path, lambda images: (damage.told(images, [lie]) for lie in _some(damage.lies(images))))


def test_several_lies(tmp_path: Path) -> None:
    """Lies that agree with one another, or hide each other from a check, are found by chance."""

    def try_some(place: Path) -> str:
        trials = Trials(place)
        lies = list(damage.lies(trials.images))

        @settings(
            max_examples=_TRIALS,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(st.sampled_from(lies), min_size=2, max_size=4))
        def nothing_bad_happens(several: list[damage.Lie]) -> None:
            problem = trials.problem(damage.told(trials.images, several))
            assert problem is None, problem

        nothing_bad_happens()
        return ""

    ward.inside(tmp_path, try_some, _DEADLINE)
