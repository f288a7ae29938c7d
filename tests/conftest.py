"""A directory for images, a disk that can be filled, and hypothesis without deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.disk import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.images.directory import ImageDir

# How long an example takes says nothing on a machine that is busy.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageDir]:
    """An empty ImageDir at tmp_path/images."""
    from engine.images.directory import ImageDir

    (tmp_path / "images").mkdir()
    with ImageDir(str(tmp_path / "images")) as directory:
        yield directory


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be filled (tests/disk.py)."""
    with mounted(tmp_path / "disk") as place:
        yield place
