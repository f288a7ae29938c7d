"""What a measurement gives."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the result. goal: the bound on the value, None where there is none. note: what it was made of."""

    what: str
    value: float
    unit: str
    note: str = ""
    goal: float | None = None
    more_is_better: bool = False

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal
