"""How tests wait: for a condition, with a deadline."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE = float(os.environ.get("ZDTM_TIMEOUT_SCALE", "1"))
"""How much slower this machine is than it may be, emulated ones above all."""
SECONDS = 20 * SCALE
_STEP = 0.001


def wait_until(true: Callable[[], object], what: str, explain: Callable[[], str] = str) -> None:
    """Poll until a condition holds, or fail: what did not come true, and how things stand by then."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}\n{explain()}"
        time.sleep(_STEP)
