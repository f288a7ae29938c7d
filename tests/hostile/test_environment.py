"""A bad environment: one clear line, exit status 1, the tree unharmed or nothing created, and no half set of images."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from tests.hostile import ward
from tests.hostile.subject import PLAIN, Subject
from tests.hostile.trial import Damage, Trials, errors_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_RESTLESS = PLAIN.replace("time.sleep(60)", "time.sleep(0.001)").replace(
    "target=time.sleep, args=(3600,)", "target=run"
)
_RUN = """
def run():
    while True: time.sleep(0.001)
"""
_FULL = (4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096, 6144, 8192)
"""Sizes of file systems in KiB: too small for the images, but for different ones."""


class _Dumps:
    """Dumps of one running tree that fail."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "subject").mkdir()
        self.subject = Subject(place / "subject", "import time" + _RUN + _RESTLESS)
        self.subject.remember()

    def fail(self, *words: str) -> str:
        """The one reason of a dump that fails and leaves the tree unharmed."""
        outcome = ward.command("dump", "-t", str(self.subject.pid), "-v2", *words)
        assert (outcome.status, outcome.left) == (1, []), outcome.log
        assert "internal error" not in outcome.log, outcome.log
        assert "Traceback" not in outcome.log, outcome.log
        self.subject.check_unharmed()
        reasons = errors_of(outcome.log)
        assert len(reasons) == 1, outcome.log
        return reasons[0]


def _expect(reason: str, *parts: str) -> None:
    missing = [part for part in parts if part not in reason]
    assert not missing, f"{missing} is not in: {reason}"


def _directories(place: Path) -> str:
    dumps = _Dumps(place)
    (place / "file").touch()
    (place / "images").mkdir()
    (place / "read-only").mkdir()
    ward.mount("tmpfs", place / "read-only", "tmpfs", ward.MS_RDONLY)
    images = str(place / "images")
    _expect(dumps.fail("-D", str(place / "missing")), "images directory", "missing", "No such file")
    _expect(dumps.fail("-D", str(place / "file")), "images directory", "file", "Not a directory")
    _expect(dumps.fail("-D", images, "-W", str(place / "missing")), "work directory", "missing", "No such file")
    _expect(dumps.fail("-D", images, "-o", "missing/log"), "log file missing/log", "No such file")
    _expect(dumps.fail("-D", images, "-o", "."), "log file .", "Is a directory")
    _expect(dumps.fail("-D", str(place / "read-only")), str(place / "read-only"), "Read-only file system")
    assert not os.listdir(images)
    return ""


def _disk_full(place: Path) -> str:
    dumps = _Dumps(place)
    (place / "images").mkdir()
    for size in _FULL:
        ward.mount("tmpfs", place / "images", "tmpfs", 0, f"size={size}k")
        reason = dumps.fail("-D", str(place / "images"))
        assert "No space left on device" in reason or "is the disk full" in reason, f"{size} KiB: {reason}"
        assert not os.listdir(place / "images"), f"{size} KiB: {os.listdir(place / 'images')}"
        ward.unmount(place / "images")
    for inodes in range(1, 24):
        ward.mount("tmpfs", place / "images", "tmpfs", 0, f"nr_inodes={inodes}")
        _expect(dumps.fail("-D", str(place / "images")), "No space left on device")
        assert not os.listdir(place / "images"), f"{inodes} inodes: {os.listdir(place / 'images')}"
        ward.unmount(place / "images")
    return ""


def _limits(place: Path) -> str:
    """Of the engine: file size, descriptors."""
    dumps = _Dumps(place)
    (place / "images").mkdir()
    for limit, values, part in (
        (resource.RLIMIT_FSIZE, (0, 100, 5000, 1 << 20), "File too large"),
        (resource.RLIMIT_NOFILE, (4, 8, 12, 16, 20), "Too many open files"),
    ):
        for value in values:
            with ward.limited(limit, value):
                reason = dumps.fail("-D", str(place / "images"))
            _expect(reason, part)
            assert not os.listdir(place / "images"), value
    return ""


def _no_stats(place: Path) -> str:
    """That the statistics can't be written is a warning."""
    dumps = _Dumps(place)
    for name in ("images", "work", "work/stats-dump"):
        (place / name).mkdir()
    words = [
        "dump",
        "-t",
        str(dumps.subject.pid),
        "-D",
        str(place / "images"),
        "-W",
        str(place / "work"),
        "-R",
        "-v2",
    ]
    outcome = ward.command(*words)
    assert outcome.status == 0, outcome.log
    assert not errors_of(outcome.log)
    assert "stats-dump cannot be written" in outcome.log
    dumps.subject.check_unharmed()
    return ""


def _restores(place: Path) -> str:
    trials = Trials(place, PLAIN)
    (place / "file").touch()
    whole = str(place / "whole")
    limits = (resource.RLIMIT_NOFILE, 12), (resource.RLIMIT_NOFILE, 24), (resource.RLIMIT_AS, 1 << 26)
    for words, parts in (
        (("-D", str(place / "missing")), ("images directory", "missing", "No such file")),
        (("-D", str(place / "file")), ("images directory", "file", "Not a directory")),
        (("-D", str(place / "tried")), ("inventory.img", "is missing", "complete dump")),
        (("-D", whole, "-W", str(place / "missing")), ("work directory", "missing", "No such file")),
        (("-D", whole, "-o", "missing/log"), ("log file missing/log", "No such file")),
        (("-D", whole, "--pidfile", str(place / "file")), ("pid file", "exists", "remove it")),
        (("-D", whole, "--pidfile", str(place / "missing" / "pid")), ("pid file", "No such file")),
        (("-D", whole, "--inherit-fd", "fd[99]:pipe:[1]"), ("fd[99]", "Bad file descriptor")),
        (("-D", whole, "--exec-cmd", "--", "/no/such/command"), ("/no/such/command", "No such file")),
    ):
        detached = () if "--exec-cmd" in words else ("-d",)
        outcome = ward.command("restore", "-s", "-v2", *detached, *words)
        _check_nothing_made(trials, outcome, *parts)
    for limit, value in limits:
        with ward.limited(limit, value):
            outcome = trials.restore(Damage("nothing", {}))
        _check_nothing_made(trials, outcome)
    return ""


def _check_nothing_made(trials: Trials, outcome: ward.Outcome, *parts: str) -> None:
    assert (outcome.status, outcome.left) == (1, []), outcome.log
    assert "internal error" not in outcome.log, outcome.log
    reasons = errors_of(outcome.log)
    assert parts == () or len(reasons) == 1, outcome.log
    _expect(reasons[0], *parts)
    assert not trials.files.difference()


@pytest.mark.parametrize("work", [_directories, _disk_full, _limits, _no_stats, _restores])
def test_environment(tmp_path: Path, work: Callable[[Path], str]) -> None:
    ward.inside(tmp_path, work)
