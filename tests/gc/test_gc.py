"""gc takes away what a dump has left in the file system, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.images.directory import ImageDir
from tests.hostile import ward
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """
import os, signal
for number in range(2):
    fd = os.open(f"lost{number}", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"data")
    os.link(f"lost{number}", f"kept{number}")
    os.unlink(f"lost{number}")
os.mkdir("ready")
while True: signal.pause()
"""


def _gc(images: Path, *options: str) -> ward.Outcome:
    return ward.command("gc", "-D", str(images), "-v3", *options, watched=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with files that a tree had open, and the images of that tree, which is gone."""
    null = subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM],
        cwd=tmp_path, start_new_session=True, stdin=null, stdout=null, stderr=null,
    )  # fmt: skip
    wait_until(lambda: (tmp_path / "ready").exists(), "the files are there")
    (tmp_path / "images").mkdir()
    words = ["dump", "-t", str(process.pid), "-D", str(tmp_path / "images"), "--link-remap"]
    outcome = ward.command(*words, "-v3", watched=False)
    assert outcome.status == 0, outcome.log
    process.wait()
    return tmp_path


def _links(place: Path) -> list[Path]:
    return sorted(place.glob("link_remap.*"))


def test_removes_links(place: Path) -> None:
    links = _links(place)
    assert len(links) == 2
    dry = _gc(place / "images", "--dry-run")
    assert dry.status == 0, dry.log
    assert all(f"would remove {link}" in dry.log for link in links)
    assert _links(place) == links
    times = (place.stat().st_mtime_ns, (place / "kept0").stat().st_mtime_ns)
    wet = _gc(place / "images")
    assert wet.status == 0, wet.log
    assert all(f"removing {link}" in wet.log for link in links)
    assert _links(place) == []
    assert (place.stat().st_mtime_ns, (place / "kept0").stat().st_mtime_ns) == times
    assert (place / "kept0").read_bytes() == b"data"
    again = _gc(place / "images")
    assert again.status == 0, again.log
    assert "removing" not in again.log


def test_after_a_restore_there_is_nothing(place: Path) -> None:
    words = ["restore", "-d", "-D", str(place / "images"), "--pidfile", str(place / "pid")]
    restored = ward.command(*words, watched=False)
    assert restored.status == 0, restored.log
    os.kill(int((place / "pid").read_text()), 9)
    outcome = _gc(place / "images")
    assert (outcome.status, "removing" in outcome.log) == (0, False), outcome.log


def test_another_file_of_that_name(place: Path) -> None:
    first, second = _links(place)
    first.rename(place / "moved")
    first.write_text("somebody's")
    outcome = _gc(place / "images")
    assert outcome.status == 1
    assert f"{first} is left: it is inode" in outcome.log
    assert (first.exists(), second.exists()) == (True, False)


def test_the_last_name(place: Path) -> None:
    (place / "kept0").unlink()
    outcome = _gc(place / "images")
    assert outcome.status == 1
    assert "is left: the file has 0 other names, at the dump it had 1" in outcome.log
    (left,) = _links(place)
    assert left.read_bytes() == b"data"


def test_names_that_no_dump_gives(place: Path) -> None:
    with ImageDir(str(place / "images")) as images:
        entries = list(images.read("FILES"))
        for entry in entries:
            if entry.HasField("reg") and entry.reg.HasField("link_inode"):
                entry.reg.name = str(place / "kept0")
        images.write("FILES", entries)
    outcome = _gc(place / "images")
    assert outcome.status == 1
    assert "is no link of a dump" in outcome.log
    assert (place / "kept0").exists()


def test_no_images(tmp_path: Path) -> None:
    outcome = _gc(tmp_path)
    assert outcome.status == 1
    assert "inventory.img" in outcome.log


def test_images_of_another_version(place: Path) -> None:
    with ImageDir(str(place / "images")) as images:
        inventory = images.read_one("INVENTORY")
        inventory.img_version = 77
        images.write("INVENTORY", inventory)
    outcome = _gc(place / "images")
    assert outcome.status == 1
    assert "version 77" in outcome.log
    assert len(_links(place)) == 2
