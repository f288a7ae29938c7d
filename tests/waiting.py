"""How tests wait: for a condition, with a deadline."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE = float(os.environ.get("ZDTM_TIMEOUT_SCALE", "1"))
"""How much slower this machine is than it may be, emulated ones above all."""
SECONDS = 20 * SCALE
_STEP = 0.001


def reap() -> None:
    """Wait for all children that are dead: the orphans that a subreaper gets (prctl(2)) are known to nobody."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def wait_until(true: Callable[[], object], what: str, explain: Callable[[], str] = str) -> None:
    """Poll until a condition holds, or fail: what did not come true, and how things stand by then."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}\n{explain()}"
        time.sleep(_STEP)
