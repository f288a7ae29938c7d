"""Pages that nobody needs any more leave the disk."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from tests.hostile import ward
from tests.increment.churn import PAGES
from tests.increment.subject import Subject, content, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def subject() -> Iterator[Subject]:
    running = Subject()
    yield running
    running.end()


def _blocks(images: Path) -> int:
    """Of all pages files."""
    return sum(path.stat().st_blocks for path in images.glob("pages-*.img"))


def _two_rounds(subject: Subject, place: Path, *options: str) -> None:
    run("pre-dump", subject, place / "0")
    for page in range(0, PAGES, 2):
        subject.do(f"write {page} 200")
    run("dump", subject, place / "1", "-R", "--prev-images-dir", "../0", *options)


def _dedup(images: Path) -> ward.Outcome:
    return ward.command("dedup", "-D", str(images), "-v3", watched=False)


def test_dedup(subject: Subject, tmp_path: Path) -> None:
    _two_rounds(subject, tmp_path)
    pid = subject.process.pid
    before, blocks = content(tmp_path / "1", pid), _blocks(tmp_path / "0")
    outcome = _dedup(tmp_path / "1")
    assert outcome.status == 0, outcome.log
    with ImageDir(str(tmp_path / "1")) as images, PageReader(images, pid) as reader:
        changed = sum(nr_pages for _, nr_pages, flags in reader.runs if flags & 4)
    assert PAGES // 2 <= changed < PAGES * 20
    assert 0 < _blocks(tmp_path / "0") <= blocks - PAGES // 2 * 8
    assert content(tmp_path / "1", pid) == before


def test_auto_dedup_is_the_same(subject: Subject, tmp_path: Path) -> None:
    _two_rounds(subject, tmp_path, "--auto-dedup")
    blocks = _blocks(tmp_path / "0")
    assert _dedup(tmp_path / "1").status == 0
    assert _blocks(tmp_path / "0") == blocks


def test_without_parent(subject: Subject, tmp_path: Path) -> None:
    run("pre-dump", subject, tmp_path / "0")
    blocks = _blocks(tmp_path / "0")
    assert _dedup(tmp_path / "0").status == 0
    assert _blocks(tmp_path / "0") == blocks


def test_files_with_other_names_are_left_alone(subject: Subject, tmp_path: Path) -> None:
    _two_rounds(subject, tmp_path)
    (pages,) = (tmp_path / "0").glob("pages-*.img")
    (tmp_path / "other").hardlink_to(pages)
    before = pages.read_bytes()
    outcome = _dedup(tmp_path / "1")
    assert outcome.status == 1
    assert "has other names" in outcome.log
    assert pages.read_bytes() == before


def test_restore(tmp_path: Path) -> None:
    """Nothing but the restored process has its pages then."""
    null = subprocess.DEVNULL
    sleeper = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=null, stdout=null, stderr=null)
    try:
        for words in (["dump", "-t", str(sleeper.pid)], ["restore", "-d", "--auto-dedup"]):
            outcome = ward.command(*words, "-D", str(tmp_path), "-v3", watched=False)
            assert outcome.status == 0, outcome.log
            sleeper.poll()
        assert _blocks(tmp_path) == 0
    finally:
        os.kill(sleeper.pid, signal.SIGKILL)
