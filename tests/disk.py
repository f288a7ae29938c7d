"""Disks that are full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 64 << 20


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A file system of SIZE bytes."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def leave(disk: Path, room: int) -> Path:
    """Empty the disk and fill it but for so many bytes. Returns a directory for images there."""
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    images = disk / "images"
    images.mkdir()
    with open(disk / "filler", "wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, SIZE - room)
    return images
