"""A task is never harmed: the engine is killed at every step of a dump and of a restore, and every step is made to
fail. After a dump the tree runs on untouched, after a restore nothing of it exists."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

import engine.dump_tree
import engine.restore
from engine.kernel import ptrace
from tests.harm import stepper
from tests.harm.subject import children_of
from tests.harm.verbs import Dumped, dump, fresh, log_of, restore, verb
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harm.subject import Subject

_SHARDS = 4


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
    fresh(images)
    engine.dump_tree.load_ahead()
    assert dump(subject, images, *options)() == 0
    subject.remove_remaps()
    fresh(images)
    whole = stepper.run(dump(subject, images, *options), request=begin)
    assert whole.succeeded, log_of("dump", images)
    subject.remove_remaps()
    for step in range(1 + shard, whole.steps + 1, _SHARDS):
        fresh(images)
        outcome = stepper.run(dump(subject, images, *options), step, victim, begin)
        subject.check_unharmed()
        left = subject.remaps()
        assert not left or victim or outcome.succeeded, f"step {step} of {whole.steps}: {left} left behind"
        subject.remove_remaps()
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
    first, second, which = tmp_path / "first", tmp_path / "second", ["-t", subject.pid]

    def try_second(step: int = 0) -> stepper.Outcome:
        fresh(first)
        fresh(second)
        assert verb("pre-dump", first, *which)() == 0, log_of("pre-dump", first)
        return stepper.run(verb("pre-dump", second, *which, "--prev-images-dir", "../first"), step, victim)

    engine.dump_tree.load_ahead()
    whole = try_second()
    assert whole.succeeded, log_of("pre-dump", second)
    for step in range(1 + shard, whole.steps + 1, _SHARDS):
        try_second(step)
        subject.check_unharmed()


@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("victim", ["engine", ""], ids=["killed", "failing"])
def test_restore(subject: Subject, tmp_path: Path, victim: str, shard: int) -> None:
    """Nothing is left of a restore that did not come to its end, and all is there of one that did."""
    images = tmp_path / "images"
    dumped = Dumped(subject, images)
    whole = stepper.run(restore(images))
    assert whole.succeeded, log_of("restore", images)
    subject.end()
    for step in range(1 + shard, whole.steps + 1, _SHARDS):
        dumped.renew()
        outcome = stepper.run(restore(images), step, victim)
        where = f"step {step} of {whole.steps}, status {outcome.status:#x}"
        if subject.settles(where):
            assert outcome.succeeded or victim, f"{where}: failed, but the tree is there"
            subject.end()

