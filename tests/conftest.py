"""A directory for images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.images.directory import ImageDir


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageDir]:
    """An empty ImageDir at tmp_path/images."""
    from engine.images.directory import ImageDir

    (tmp_path / "images").mkdir()
    with ImageDir(str(tmp_path / "images")) as directory:
        yield directory
