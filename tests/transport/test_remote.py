"""Dump, pre-dump and restore through an image proxy and an image cache."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.rpc.conftest import await_end, is_running
from tests.transport import remote
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport.remote import Daemon

    Pair = tuple[Daemon, Daemon]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def pair(work: Path) -> Iterator[Pair]:
    with remote.both(work, "--max-memory", "64M") as pair:
        yield pair


def test_there_and_back(work: Path, pair: Pair) -> None:
    with remote.subject(8) as pid:
        before = remote.memory_of(pid)
        remote.done(work, "dump", "there", "-t", str(pid))
        await_end(pid)
        remote.restore(work, "there")
        assert is_running(pid)
        assert remote.memory_of(pid) == before
    assert re.search(r"Snapshot there is whole: \d+ images, 1?[0-9]\.\d MiB; .* of 64.0 MiB in use", pair[1].log)


def test_each_snapshot_has_the_parent_that_it_names(work: Path, pair: Pair) -> None:
    """Two pre-dumps build on the same one; so does the dump, which comes last."""
    with remote.subject(4) as pid:
        before = remote.memory_of(pid)
        task = "-t", str(pid), "--track-mem"
        remote.done(work, "pre-dump", "first", *task)
        remote.done(work, "pre-dump", "second", *task, "--prev-images-dir", "first")
        remote.done(work, "dump", "last", *task, "--prev-images-dir", "second")
        await_end(pid)
        remote.restore(work, "last")
        assert remote.memory_of(pid) == before
    log = pair[1].log
    assert "Snapshot second, which builds on snapshot first, begins" in log
    assert "Snapshot last, which builds on snapshot second, begins" in log
    sizes = {name: float(size) for name, size in re.findall(r"Snapshot (\w+) is whole: \d+ images, (\S+) MiB", log)}
    assert sizes["last"] < sizes["first"] / 4


def test_a_parent_need_not_be_the_one_before(work: Path, pair: Pair) -> None:
    """What watches a task knows the round of the last images only, so nothing counts as unchanged since older ones."""
    with remote.subject(1) as pid:
        before = remote.memory_of(pid)
        task = "-t", str(pid), "--track-mem"
        remote.done(work, "pre-dump", "old", *task)
        remote.done(work, "pre-dump", "new", *task)
        remote.done(work, "dump", "on-old", *task, "--prev-images-dir", "old")
        await_end(pid)
        remote.restore(work, "on-old")
        assert remote.memory_of(pid) == before
    assert "Snapshot on-old, which builds on snapshot old, begins" in pair[1].log


def test_a_restore_may_begin_before_the_dump(work: Path, pair: Pair) -> None:
    with remote.unwaited_subject() as pid:
        before = remote.memory_of(pid)
        early = remote.Run(work, "restore", "early", "-d")
        log = work / "restore-early.log"
        wait_until(lambda: log.exists() and "command restore" in log.read_text(), "the restore has begun")
        remote.done(work, "dump", "early", "-t", str(pid))
        outcome = early.outcome()
        assert outcome.status == 0, outcome.log
        assert remote.memory_of(pid) == before


def test_a_dump_that_leaves_its_tree_running(work: Path, pair: Pair) -> None:
    with remote.subject() as pid:
        remote.done(work, "dump", "running", "-t", str(pid), "--leave-running")
        assert is_running(pid)
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
        remote.restore(work, "running")
        assert is_running(pid)


@pytest.mark.parametrize(
    ("verb", "id", "options", "why"),
    [
        ("dump", "a/b", (), "an id of a snapshot has"),
        ("dump", "x", ("--prev-images-dir", "nothing"), "there is no snapshot nothing: the image cache has none such"),
        ("dump", "x", ("--prev-images-dir", "../1"), "an id of a snapshot has"),
        ("dump", "x", ("--remote-socket", "gone.sock"), "gone.sock: No such file or directory (is it running?)"),
        ("dump", "x", ("--auto-dedup",), "--remote and --auto-dedup exclude each other"),
        ("pre-dump", "x", ("--remote-socket", "/dev/null"), "/dev/null: Connection refused"),
    ],
)
def test_what_can_not_be(
    work: Path, pair: Pair, verb: str, id: str, options: tuple[str, ...], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with remote.subject() as pid:
        outcome = remote.run(work, verb, id, "-t", str(pid), *options)
        assert outcome.status == 1
        assert is_running(pid)
    assert why in outcome.log + capfd.readouterr().err


def test_an_id_is_used_once(work: Path, pair: Pair) -> None:
    with remote.subject() as pid:
        remote.done(work, "dump", "once", "-t", str(pid), "-R")
        outcome = remote.run(work, "dump", "once", "-t", str(pid))
        assert outcome.status == 1
        assert len(outcome.errors) == 1
        assert "has a snapshot once already, which is whole" in outcome.errors[0]
        assert is_running(pid)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A dump that has no room fails and leaves its tree alone, and nothing of it is kept."""
    with remote.both(tmp_path, "--max-memory", "6M") as (_, cache), remote.subject(8) as pid:
        outcome = remote.run(tmp_path, "dump", "large", "-t", str(pid))
        assert outcome.status == 1
        assert len(outcome.errors) == 1
        assert "of 6.0 MiB, and has no room for" in outcome.errors[0]
        assert is_running(pid)
        wait_until(lambda: "given back; 0.0 of 6.0 MiB in use" in cache.log, "the memory is free", lambda: cache.log)
        with remote.subject(1) as small:
            remote.done(tmp_path, "dump", "small", "-t", str(small))
            await_end(small)
            remote.restore(tmp_path, "small")


def test_a_failed_dump_leaves_nothing(work: Path, pair: Pair) -> None:
    """When everything has been sent and a script says no."""
    script = work / "no.sh"
    script.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-dump ]\n')
    script.chmod(0o755)
    with remote.subject() as pid:
        outcome = remote.run(work, "dump", "failed", "-t", str(pid), "--action-script", str(script))
        assert outcome.status != 0
        assert is_running(pid)
        wait_until(lambda: "Snapshot failed is lost: its dump has failed" in pair[1].log, "it is forgotten")
        remote.done(work, "dump", "failed", "-t", str(pid))
        await_end(pid)
