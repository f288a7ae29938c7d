"""The process that does a command's work, seen from the one that waits for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from engine import log, worker
from engine.errors import CrError


@pytest.fixture(autouse=True)
def _forget() -> None:
    log.setup(log.WARN)
    log.forget_first_error()


def test_status_is_the_works() -> None:
    assert worker.run(lambda commit: 3) == 3


def test_killed_worker_is_told() -> None:
    def work(commit: Callable[[], None]) -> int:
        os.kill(os.getpid(), signal.SIGILL)
        return 0

    with pytest.raises(CrError, match="was killed by SIGILL"):
        worker.run(work)
