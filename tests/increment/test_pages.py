"""A dump that builds on pre-dumps has the very bytes that a plain dump of the same moment has, whatever happened to the
memory in between."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from engine.kernel.features import memory
from engine.task import watch
from tests.harm.subject import wait_until
from tests.hostile import ward
from tests.increment import churn

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


class _Subject:
    """churn.py without restartable sequences: the kernel writes the number of the processor there between two dumps."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", churn.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
            env={**os.environ, "GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
        )  # fmt: skip
        assert self._answer() == "ready\n"

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self._answer() == "done\n", command

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def pids(self) -> list[int]:
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def _try(verb: str, subject: _Subject, images: Path, *options: str) -> ward.Outcome:
    images.mkdir(exist_ok=True)
    words = [verb, "-t", str(subject.process.pid), "-D", str(images), *options]
    return ward.command(*words, "-v3", watched=False)


def _run(verb: str, subject: _Subject, images: Path, *options: str) -> None:
    outcome = _try(verb, subject, images, *options)
    assert outcome.status == 0, outcome.log


def _content(images: Path, pid: int) -> dict[int, bytes]:
    """address: page."""
    found = {}
    with ImageDir(str(images)) as directory, PageReader(directory, pid) as reader:
        for vaddr, nr_pages, fd, offset in reader.segments():
            for number in range(nr_pages):
                found[vaddr + number * 4096] = os.pread(fd, 4096, offset + number * 4096)
    return found


def _check(subject: _Subject, images: Path) -> None:
    """The images are those of a plain dump made now."""
    plain = images.parent / "plain"
    _run("dump", subject, plain, "-R")
    for pid in subject.pids():
        assert _content(images, pid) == _content(plain, pid)


@pytest.fixture
def subject() -> Iterator[_Subject]:
    running = _Subject()
    yield running
    running.end()


@pytest.fixture(params=_WAYS, ids=["write-protection", "soft-dirty", "comparison"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Each way to find changes, forced upon the engine, which is a fork of this process."""
    wanted: type = request.param
    if wanted is watch.WriteProtection and not memory.wp_async():
        pytest.skip("needs feature wp_async: asynchronous write protection by userfaultfd")
    if wanted is watch.SoftDirty and not memory.soft_dirty():
        pytest.skip("needs feature soft_dirty: CONFIG_MEM_SOFT_DIRTY")
    monkeypatch.setattr(memory, "wp_async", lambda: wanted is watch.WriteProtection)
    monkeypatch.setattr(memory, "soft_dirty", lambda: wanted is watch.SoftDirty)
    return wanted


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([["write 1 7"], ["drop 1"], ["move 2 1"], ["renew 2"]])
@example([["drop 3"], ["write 3 0"], ["move 4 5", "move 5 4"], ["grow", "child"]])
@given(_ROUNDS)
def test_no_page_is_stale(way: type, rounds: list[list[str]]) -> None:
    subject = _Subject()
    try:
        with TemporaryDirectory() as name:
            place = Path(name)
            _run("pre-dump", subject, place / "0")
            for number, commands in enumerate(rounds, 1):
                for command in commands:
                    subject.do(command)
                verb = "dump" if number == len(rounds) else "pre-dump"
                options = ["-R", "--track-mem"] if verb == "dump" else []
                _run(verb, subject, place / str(number), "--prev-images-dir", f"../{number - 1}", *options)
            _check(subject, place / str(len(rounds)))
    finally:
        subject.end()


@pytest.mark.usefixtures("way")
def test_two_children_of_one_parent(subject: _Subject, tmp_path: Path) -> None:
    """The second one can't count on what was watched since the first."""
    _run("pre-dump", subject, tmp_path / "0")
    subject.do("write 1 70")
    _run("pre-dump", subject, tmp_path / "1", "--prev-images-dir", "../0")
    subject.do("write 2 80")
    _run("pre-dump", subject, tmp_path / "other", "--prev-images-dir", "../0")
    _check(subject, tmp_path / "other")


@pytest.mark.usefixtures("way")
def test_a_round_that_failed(subject: _Subject, tmp_path: Path) -> None:
    """What it watched is forgotten."""
    _run("pre-dump", subject, tmp_path / "0")
    subject.do("write 1 70")
    (tmp_path / "1").mkdir()
    (tmp_path / "1/inventory.img").mkdir()
    assert _try("pre-dump", subject, tmp_path / "1", "--prev-images-dir", "../0").status == 1
    subject.do("write 2 80")
    _run("pre-dump", subject, tmp_path / "2", "--prev-images-dir", "../0")
    _check(subject, tmp_path / "2")


def test_missing_parent(subject: _Subject, tmp_path: Path) -> None:
    outcome = _try("dump", subject, tmp_path / "0", "-R", "--prev-images-dir", "../nothing")
    assert outcome.status == 1
    assert "images directory ../nothing cannot be opened: No such file or directory" in outcome.log
    assert os.listdir(tmp_path / "0") == []


def test_a_pre_dump_is_no_dump(subject: _Subject, tmp_path: Path) -> None:
    _run("pre-dump", subject, tmp_path / "0")
    outcome = ward.command("restore", "-D", str(tmp_path / "0"), "-v2", watched=False)
    assert outcome.status == 1
    assert "are of a pre-dump" in outcome.log


def test_nothing_stays(subject: _Subject, tmp_path: Path) -> None:
    """The tasks have no descriptor more, and the holder ends with them."""
    pid = subject.process.pid
    before = sorted(os.listdir(f"/proc/{pid}/fd"))
    _run("pre-dump", subject, tmp_path / "0")
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == before
    with ImageDir(str(tmp_path / "0")) as images:
        inventory = images.read_one("INVENTORY")
    subject.end()
    if inventory.HasField("watch"):
        wait_until(lambda: _has_ended(inventory.watch.pid), "the holder ends")


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True
