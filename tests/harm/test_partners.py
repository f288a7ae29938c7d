"""The same where somebody else has to do with it: the engine is killed at steps of a dump to a page server, of one that
keeps the pages in the tree, of a lazy restore, and so is the daemon that brings the pages; or a step fails.

The tree is there as it was, or nothing of it is; the other side ends and keeps no process. One of so many steps is
tried, another one in each test, since these take some thousand.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

import engine.dump_tree
import engine.lazy.daemon
import engine.restore
from engine import worker
from engine.task import seize
from tests.harm import partner, stepper
from tests.harm.subject import Subject
from tests.harm.verbs import Dumped, dump, fresh, log_of, restore, verb
from tests.transport.conftest import stored
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TRIALS = 16
"""Of each test, however many steps there are."""
_LAST = 60
"""Steps in which a dump ends."""

killed_or_failing = pytest.mark.parametrize("victim", ["worker", ""], ids=["killed", "failing"])


def _steps(whole: stepper.Outcome, first: int = 1) -> Iterator[int]:
    """Steps from `first` to the last, equally far from each other."""
    stride = -(-(whole.steps - first + 1) // _TRIALS)
    return iter(range(whole.steps, first - 1, -stride))


def _dump(subject: Subject, images: Path, victim: str, step: int, options: list[object]) -> stepper.Outcome:
    """A fresh dump, after which the tree runs on. step: 0 for one that nothing happens to"""
    fresh(images)
    subject.remove_remaps()
    return stepper.run(dump(subject, images, "-R", *options), step, victim)


@killed_or_failing
def test_dump_to_a_page_server(subject: Subject, tmp_path: Path, victim: str) -> None:
    """Who has not been told that all has come keeps nothing."""
    here, there = tmp_path / "here", tmp_path / "there"

    def try_it(step: int = 0) -> tuple[stepper.Outcome, int]:
        fresh(there)
        return partner.with_page_server(there, partial(_dump, subject, here, victim, step))

    engine.dump_tree.load_ahead()
    whole, status = try_it()
    assert whole.succeeded, log_of("dump", here)
    assert status == 0
    for step in _steps(whole):
        outcome, status = try_it(step)
        where = f"step {step} of {whole.steps}"
        assert status == 0 or not outcome.succeeded, where
        assert status == 0 or os.listdir(there) == ["page-server.log"], where
        subject.check_unharmed()
        wait_until(subject.is_alone, f"{where}: no process is left")


@killed_or_failing
def test_dump_that_keeps_pages(subject: Subject, tmp_path: Path, victim: str) -> None:
    """Before it serves them, and while it does. -R, so that the tree runs on in any case. A dump whose very last word,
    to the other side, fails has succeeded nevertheless, and says so."""
    images = tmp_path / "images"

    def try_it(step: int = 0) -> tuple[stepper.Outcome, int]:
        return partner.with_client(images, partial(_dump, subject, images, victim, step))

    engine.dump_tree.load_ahead()
    whole, status = try_it()
    assert whole.succeeded, log_of("dump", images)
    assert status == 0
    for step in _steps(whole):
        outcome, status = try_it(step)
        said = "the client did not get to know" in log_of("dump", images)
        assert status == 0 or said or not outcome.succeeded, f"step {step} of {whole.steps}"
        subject.check_unharmed()
        wait_until(subject.is_alone, f"step {step} of {whole.steps}: no process is left")


def test_end_of_a_dump_that_kept_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree does not run here when the other side has been told to keep its own. The last steps, each with a tree
    that has not been dumped yet."""
    monkeypatch.setattr(seize, "REAPING_SECONDS", 0)  # this process is its orphans' init, and busy stepping
    engine.dump_tree.load_ahead()
    whole, _, _ = _end(tmp_path / "whole", 0)
    assert whole.succeeded
    for step in _steps(whole, whole.steps - _LAST):
        _, told, there = _end(tmp_path / str(step), step)
        assert not (there and told == 0), f"step {step} of {whole.steps}: the tree runs twice"


def _end(place: Path, step: int) -> tuple[stepper.Outcome, int, bool]:
    """What became of a dump, the status of who fetched the pages, and whether the tree is still there."""
    place.mkdir()
    with Subject(place / "subject") as subject:
        images = place / "images"
        images.mkdir()

        def attempt(options: list[object]) -> stepper.Outcome:
            return stepper.run(dump(subject, images, *options), step, "engine")

        outcome, told = partner.with_client(images, attempt)
        return outcome, told, subject.settles(f"step {step}")


@pytest.mark.parametrize("victim", ["engine", ""], ids=["killed", "failing"])
def test_lazy_restore(subject: Subject, tmp_path: Path, victim: str) -> None:
    """The daemon ends with 0 when it has brought everything to a tree that is there; else nothing of the tree is."""
    images = tmp_path / "images"
    dumped = Dumped(subject, images)

    def attempt(options: list[object], step: int) -> stepper.Outcome:
        return stepper.run(restore(images, *options), step, victim)

    def try_it(step: int = 0) -> tuple[stepper.Outcome, bool]:
        dumped.renew()
        outcome, status = partner.with_daemon(images, partial(attempt, step=step))
        where = f"step {step}, status {outcome.status:#x}, {status} of the daemon"
        wait_until(subject.is_alone, f"{where}: no process is left")
        there = subject.settles(where)
        assert status == 0 or not there, f"{where}: the tree is there"
        assert victim or there == outcome.succeeded, where
        subject.end()
        return outcome, there

    whole, there = try_it()
    assert there, log_of("lazy-pages", images)
    for step in _steps(whole):
        try_it(step)


def test_daemon_of_a_lazy_restore(subject: Subject, tmp_path: Path) -> None:
    """It is killed at a step. What is there of the tree has all its memory."""
    images = tmp_path / "images"
    dumped = Dumped(subject, images)
    pages = {pid: stored(images, pid) for pid in subject.pids}

    def attempt(options: list[object], step: int) -> stepper.Outcome:
        daemon = verb("lazy-pages", images, *options)
        return stepper.run(lambda: worker.run(lambda _: daemon()), step, "worker")

    def try_it(step: int = 0) -> stepper.Outcome:
        dumped.renew()
        outcome, status = partner.with_restore(images, partial(attempt, step=step))
        where = f"step {step}, status {status} of the restore"
        wait_until(subject.is_alone, f"{where}: no process is left")
        if subject.settles(where):
            assert status == 0, where
            assert not _lost(pages), where
        subject.end()
        return outcome

    whole = try_it()
    assert whole.succeeded, log_of("lazy-pages", images)
    for step in _steps(whole):
        try_it(step)


def _lost(pages: dict[int, dict[int, bytes]]) -> list[int]:
    """The addresses of zeros where the images have something else."""
    lost = []
    for pid, content in pages.items():
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            lost += [at for at, page in content.items() if any(page) and not any(os.pread(memory.fileno(), 4096, at))]
    return lost
