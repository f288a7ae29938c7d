"""A tree to be dumped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harm.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    with Subject(tmp_path / "subject") as running:
        yield running
