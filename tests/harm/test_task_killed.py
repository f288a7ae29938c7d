"""A task of the tree is killed at a step of its dump, by whoever kills tasks: the rest of the tree runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import engine.dump_tree
from tests.harm import stepper
from tests.harm.subject import Subject, look
from tests.harm.verbs import dump, fresh, log_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_TRIALS = 16
"""Of some thousand steps, since each takes a new tree."""
_FAILED = 1 << 8


def test_parent_with_threads(tmp_path: Path) -> None:
    """The dump ends, too, and says so."""
    images = tmp_path / "images"
    engine.dump_tree.load_ahead()
    fresh(images)
    with Subject(tmp_path / "whole") as subject:
        whole = stepper.run(dump(subject, images, "-R"))
    assert whole.succeeded, log_of("dump", images)
    for step in range(whole.steps, 0, -(whole.steps // _TRIALS)):
        fresh(images)
        with Subject(tmp_path / str(step)) as subject:
            child = subject.pids[1:]
            before = look(child)
            outcome = stepper.run(dump(subject, images, "-R"), step, subject.pid)
            assert outcome.status in (0, _FAILED), f"step {step} of {whole.steps}: {log_of('dump', images)}"
            count = subject.counts()[0]
            wait_until(lambda: subject.counts()[0] > count, "the child goes on")  # noqa: B023
            wait_until(lambda: look(child) == before, "the child is as before")  # noqa: B023
