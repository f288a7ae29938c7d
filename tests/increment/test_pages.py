"""A dump that builds on pre-dumps has the very bytes that a plain dump of the same moment has, whatever happened to the
memory in between."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.images.directory import ImageDir
from engine.images.schema import message
from engine.kernel.features import memory
from engine.task import holder, watch
from tests.hostile import ward
from tests.increment import churn
from tests.increment.subject import Subject, attempt, content, run
from tests.tools import needs_write_protection
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = st.integers(0, churn.PAGES - 1)
_COMMAND = st.one_of(
    st.builds("write {} {}".format, _PAGE, st.integers(0, 255)),
    st.builds("move {} {}".format, _PAGE, _PAGE).filter(lambda line: len(set(line.split())) == 3),
    *(st.builds(f"{name} {{}}".format, _PAGE) for name in ("drop", "renew", "protect")),
    st.sampled_from(["grow", "child"]),
)
_ROUNDS = st.lists(st.lists(_COMMAND, max_size=6), min_size=1, max_size=4)
_WAYS = [watch.WriteProtection, watch.SoftDirty, watch.Comparison]


def _check(subject: Subject, images: Path) -> None:
    """The images are those of a plain dump made now."""
    plain = images.parent / "plain"
    run("dump", subject, plain, "-R")
    for pid in subject.pids():
        assert content(images, pid) == content(plain, pid)


@pytest.fixture
def subject() -> Iterator[Subject]:
    running = Subject()
    yield running
    running.end()


@pytest.fixture(params=_WAYS, ids=["write-protection", "soft-dirty", "comparison"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Each way to find changes, forced upon the engine, which is a fork of this process."""
    wanted: type = request.param
    if wanted is watch.WriteProtection:
        needs_write_protection()
    if wanted is watch.SoftDirty and not memory.soft_dirty():
        pytest.skip("needs feature soft_dirty: CONFIG_MEM_SOFT_DIRTY")
    monkeypatch.setattr(memory, "wp_async", lambda: wanted is watch.WriteProtection)
    monkeypatch.setattr(memory, "soft_dirty", lambda: wanted is watch.SoftDirty)
    return wanted


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([["write 1 7"], ["drop 1"], ["move 2 1"], ["renew 2"]])
@example([["drop 3"], ["write 3 0"], ["move 4 5", "move 5 4"], ["grow", "child"]])
@given(_ROUNDS)
def test_no_page_is_stale(way: type, rounds: list[list[str]]) -> None:
    subject = Subject()
    try:
        with TemporaryDirectory() as name:
            place = Path(name)
            run("pre-dump", subject, place / "0")
            for number, commands in enumerate(rounds, 1):
                for command in commands:
                    subject.do(command)
                verb = "dump" if number == len(rounds) else "pre-dump"
                options = ["-R", "--track-mem"] if verb == "dump" else []
                run(verb, subject, place / str(number), "--prev-images-dir", f"../{number - 1}", *options)
            _check(subject, place / str(len(rounds)))
    finally:
        subject.end()


@pytest.mark.usefixtures("way")
def test_two_children_of_one_parent(subject: Subject, tmp_path: Path) -> None:
    """The second one can't count on what was watched since the first."""
    run("pre-dump", subject, tmp_path / "0")
    subject.do("write 1 70")
    run("pre-dump", subject, tmp_path / "1", "--prev-images-dir", "../0")
    subject.do("write 2 80")
    run("pre-dump", subject, tmp_path / "other", "--prev-images-dir", "../0")
    _check(subject, tmp_path / "other")


@pytest.mark.usefixtures("way")
def test_a_round_that_failed(subject: Subject, tmp_path: Path) -> None:
    """What it watched is forgotten."""
    run("pre-dump", subject, tmp_path / "0")
    subject.do("write 1 70")
    (tmp_path / "1").mkdir()
    (tmp_path / "1/inventory.img").mkdir()
    assert attempt("pre-dump", subject, tmp_path / "1", "--prev-images-dir", "../0").status == 1
    subject.do("write 2 80")
    run("pre-dump", subject, tmp_path / "2", "--prev-images-dir", "../0")
    _check(subject, tmp_path / "2")


def test_missing_parent(subject: Subject, tmp_path: Path) -> None:
    outcome = attempt("dump", subject, tmp_path / "0", "-R", "--prev-images-dir", "../nothing")
    assert outcome.status == 1
    assert "images directory ../nothing cannot be opened: No such file or directory" in outcome.log
    assert os.listdir(tmp_path / "0") == []


def test_a_pre_dump_is_no_dump(subject: Subject, tmp_path: Path) -> None:
    run("pre-dump", subject, tmp_path / "0")
    outcome = ward.command("restore", "-D", str(tmp_path / "0"), "-v2", watched=False)
    assert outcome.status == 1
    assert "are of a pre-dump" in outcome.log


def test_nothing_stays(subject: Subject, tmp_path: Path) -> None:
    """The tasks have no descriptor more, and the holder ends with them."""
    pid = subject.process.pid
    before = sorted(os.listdir(f"/proc/{pid}/fd"))
    run("pre-dump", subject, tmp_path / "0")
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == before
    subject.end()
    if pid := _holder(tmp_path / "0"):
        wait_until(lambda: _has_ended(pid), "the holder ends")


def test_rounds_that_nobody_builds_on(subject: Subject, tmp_path: Path) -> None:
    """They lose their holder, and what was written before the last round is not stored again."""
    needs_write_protection()
    run("pre-dump", subject, tmp_path / "other")
    subject.do("write 1 70")
    run("pre-dump", subject, tmp_path / "0")
    wait_until(lambda: _has_ended(_holder(tmp_path / "other")), "the holder of the other round has ended")
    assert not _has_ended(_holder(tmp_path / "0"))
    subject.do("write 2 80")
    run("pre-dump", subject, tmp_path / "1", "--prev-images-dir", "../0")
    stored = (tmp_path / "1" / "pages-1.img").read_bytes()
    assert bytes([80] * 64) in stored
    assert bytes([70] * 64) not in stored


def test_a_holder_ends_with_an_engine_that_dies() -> None:
    told, tells = os.pipe()
    engine = os.fork()
    if not engine:
        entry = message("memory_watch_entry")()
        holder.start({os.getppid(): tells}, entry)
        os.write(tells, b"%d" % entry.pid)
        os._exit(0)
    os.waitpid(engine, 0)
    pid = int(os.read(told, 16))
    wait_until(lambda: _has_ended(pid), "the holder ends")
    os.close(told)
    os.close(tells)


def test_a_holder_for_tasks_that_may_have_gone() -> None:
    """A tree that runs may reap some of its tasks before their holder has looked at them."""
    reader, writer = os.pipe()
    gone, lives = os.fork(), os.fork()
    if not gone or not lives:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.kill(gone, signal.SIGKILL)
    os.waitpid(gone, 0)
    entry = message("memory_watch_entry")()
    new = holder.start({gone: reader, lives: writer}, entry)
    new.confirm()
    assert "anon_inode:[pidfd]" in [os.readlink(link) for link in Path(f"/proc/{entry.pid}/fd").iterdir()]
    os.kill(lives, signal.SIGKILL)
    os.waitpid(lives, 0)
    os.waitpid(entry.pid, 0)
    os.close(reader)
    os.close(writer)


def _holder(images: Path) -> int:
    with ImageDir(str(images)) as directory:
        pid: int = directory.read_one("INVENTORY").watch.pid
        return pid


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True
