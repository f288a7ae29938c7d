"""Programs that take long: whoever runs the suite waits for them, so the header says why, `slow: reason`.

Times are those of mode cli, without what is waited for once (a compiler). On a busy machine all programs take long:
only those are told of that take longer than the others, too.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from zdtm.harness.header import Program

SECONDS = 2.0
MODE = "cli"
_TIMES_USUAL = 2
_SECONDS_OF, _REASON = "seconds_", "slow"


def properties(program: Program, seconds: dict[str, float]) -> list[tuple[str, object]]:
    """What a report, and so a file of JUnit's, says of an item. seconds: of each of its steps."""
    found: list[tuple[str, object]] = [(f"{_SECONDS_OF}{step}", round(took, 4)) for step, took in seconds.items()]
    return found if program.slow is None else [*found, (_REASON, program.slow)]


def unexplained(reports: Iterable[Any], scale: float) -> list[str]:
    """A line for each item, of all that have passed, that takes long without a reason. scale: of all deadlines."""
    taken = {report.nodeid: dict(report.user_properties) for report in reports if report.nodeid.endswith(f"-{MODE}")}
    seconds = {
        name: sum(float(value) for key, value in known.items() if key.startswith(_SECONDS_OF))
        for name, known in taken.items()
    }
    if not seconds:
        return []
    limit = max(SECONDS * scale, _TIMES_USUAL * statistics.median(seconds.values()))
    return [
        f"{name} takes {took:.1f} s: make it faster, or say why in its header (slow: reason)"
        for name, took in sorted(seconds.items(), key=lambda item: -item[1])
        if took > limit and _REASON not in taken[name]
    ]
