"""A directory for images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.images.directory import ImageDir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageDir]:
    """An empty ImageDir at tmp_path."""
    with ImageDir(str(tmp_path)) as directory:
        yield directory
