"""A task is never harmed: the engine is killed at every step of a dump and of a restore, and every step is made to
fail. After a dump the tree runs on untouched, after a restore nothing of it exists."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

import engine.cli
import engine.dump_tree
import engine.restore
from engine.kernel import ptrace
from tests.harm import stepper
from tests.harm.subject import Subject, children_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SHARDS = 4


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    with Subject(tmp_path / "subject") as running:
        yield running


def _dump(subject: Subject, images: Path, *options: str) -> Callable[[], int]:
    words = ["dump", "-t", str(subject.pid), "-D", str(images), "--link-remap", "-v4", "-o", "dump.log"]
    return lambda: engine.cli.main(["crucible", *words, *options])


def _restore(images: Path) -> Callable[[], int]:
    return lambda: engine.cli.main(["crucible", "restore", "-D", str(images), "-d", "-v4", "-o", "restore.log"])


def _fresh(images: Path) -> None:
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir()


@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("victim", ["worker", ""], ids=["killed", "failing"])
@pytest.mark.parametrize(
    ("options", "begin"), [(["-R"], None), (["-R", "--snapshot"], ptrace.SETOPTIONS)], ids=["plain", "snapshot"]
)
def test_dump(
    subject: Subject, tmp_path: Path, options: list[str], begin: int | None, victim: str, shard: int
) -> None:
    """-R, so that a step after which the dump succeeds all the same leaves the tree running, too. The birth of the
    first twin begins with a change of options of its task; up to there a snapshot is a dump as any other."""
    images = tmp_path / "images"
    _fresh(images)
    engine.dump_tree.load_ahead()
    assert _dump(subject, images, *options)() == 0
    _remove(subject)
    _fresh(images)
    whole = stepper.run(_dump(subject, images, *options), request=begin)
    assert whole.succeeded, (images / "dump.log").read_text()[-2000:]
    _remove(subject)
    for step in range(1 + shard, whole.steps + 1, _SHARDS):
        _fresh(images)
        outcome = stepper.run(_dump(subject, images, *options), step, victim, begin)
        subject.check_unharmed()
        left = subject.remaps()
        assert not left or victim or outcome.succeeded, f"step {step} of {whole.steps}: {left} left behind"
        _remove(subject)
        wait_until(lambda: not _twins(os.getpid()), f"step {step} of {whole.steps}: no twin lives")


def _twins(pid: int) -> list[str]:
    """Names of descendants that live and belong to a snapshot."""
    found = []
    for child, state in map(str.split, children_of(pid)):
        with contextlib.suppress(OSError), open(f"/proc/{child}/comm") as comm:
            name = comm.read().strip()
            found += [name] if name.startswith("crucible-twin") and state == "alive" else []
            found += _twins(int(child))
    return found


@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("victim", ["worker", ""], ids=["killed", "failing"])
def test_pre_dump(subject: Subject, tmp_path: Path, victim: str, shard: int) -> None:
    """The second one, which also takes over what watches the memory since the first."""
    first, second = tmp_path / "first", tmp_path / "second"

    def pre_dump(images: Path, *options: str) -> Callable[[], int]:
        words = ["pre-dump", "-t", str(subject.pid), "-D", str(images), "-v4", "-o", "dump.log", *options]
        return lambda: engine.cli.main(["crucible", *words])

    def try_second(step: int = 0) -> stepper.Outcome:
        _fresh(first)
        _fresh(second)
        assert pre_dump(first)() == 0, (first / "dump.log").read_text()[-2000:]
        return stepper.run(pre_dump(second, "--prev-images-dir", "../first"), step, victim)

    engine.dump_tree.load_ahead()
    whole = try_second()
    assert whole.succeeded, (second / "dump.log").read_text()[-2000:]
    for step in range(1 + shard, whole.steps + 1, _SHARDS):
        try_second(step)
        subject.check_unharmed()


def _remove(subject: Subject) -> None:
    for name in subject.remaps():
        os.unlink(subject.place / name)


@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("victim", ["engine", ""], ids=["killed", "failing"])
def test_restore(subject: Subject, tmp_path: Path, victim: str, shard: int) -> None:
    """Nothing is left of a restore that did not come to its end, and all is there of one that did."""
    images = tmp_path / "images"
    _fresh(images)
    assert _dump(subject, images)() == 0, (images / "dump.log").read_text()[-2000:]
    subject.process.wait()
    wait_until(subject.gone, "the dumped tree is gone")
    keep = tmp_path / "keep"
    shutil.copytree(subject.place, keep)
    whole = stepper.run(_restore(images))
    assert whole.succeeded, (images / "restore.log").read_text()[-2000:]
    _end(subject)
    for step in range(1 + shard, whole.steps + 1, _SHARDS):
        shutil.copytree(keep, subject.place, dirs_exist_ok=True)
        outcome = stepper.run(_restore(images), step, victim)
        where = f"step {step} of {whole.steps}, status {outcome.status:#x}"
        if subject.settles(where):
            assert outcome.succeeded or victim, f"{where}: failed, but the tree is there"
            _end(subject)


def _end(subject: Subject) -> None:
    subject.end()
    wait_until(subject.gone, "the restored tree has been killed")
