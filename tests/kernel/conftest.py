"""Fixtures for tests of the kernel interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
