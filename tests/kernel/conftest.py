"""Fixtures for tests of the kernel interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.kernel import pagemap
from tests.kernel.runs import needs_scan
from tests.kernel.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start() -> Iterator[Callable[[str], Subject]]:
    """start(code): a Subject that runs `code`, killed after the test."""
    subjects = []

    def start(code: str) -> Subject:
        subjects.append(Subject(code))
        return subjects[-1]

    yield start
    for subject in subjects:
        subject.kill()


@pytest.fixture(params=["PAGEMAP_SCAN", "entries"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with one way of looking, then with the other."""
    if request.param == "PAGEMAP_SCAN":
        needs_scan()
    else:
        monkeypatch.setattr(pagemap, "can_scan", lambda: False)
    return str(request.param)
