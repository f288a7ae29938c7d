"""What the engine is told to do while it is stepped through."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import engine.cli
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harm.subject import Subject


def verb(name: str, images: Path, *words: object) -> Callable[[], int]:
    """A command whose log is NAME.log among its images."""
    words = ("crucible", name, "-D", images, "-v4", "-o", f"{name}.log", *words)
    return lambda: engine.cli.main([str(word) for word in words])


def dump(subject: Subject, images: Path, *options: object) -> Callable[[], int]:
    return verb("dump", images, "-t", subject.pid, "--link-remap", *options)


def restore(images: Path, *options: object) -> Callable[[], int]:
    return verb("restore", images, "-d", *options)


def log_of(name: str, images: Path) -> str:
    """The end of it."""
    return (images / f"{name}.log").read_text()[-2000:]


def fresh(images: Path) -> None:
    """An empty directory."""
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir()


class Dumped:
    """A subject that has been dumped, and is gone. Each restore is to begin with renew()."""

    def __init__(self, subject: Subject, images: Path) -> None:
        fresh(images)
        assert dump(subject, images)() == 0, log_of("dump", images)
        subject.process.wait()
        wait_until(subject.gone, "the dumped tree is gone")
        self._place = subject.place
        self._kept = images.with_name("kept")
        shutil.copytree(self._place, self._kept)

    def renew(self) -> None:
        """Its files are what they were when it was dumped."""
        shutil.copytree(self._kept, self._place, dirs_exist_ok=True)
