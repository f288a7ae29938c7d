"""dump --snapshot: the images are those of one instant, although the tasks run on, who notice nothing."""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harm.subject import children_of
from tests.increment.subject import Subject, attempt, content, run
from tests.snapshot import program
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = ["-R", "--snapshot"]
_OF_THE_DUMP = ("inventory.img", "timens-0.img", "stats-dump")
"""What says when a dump was made."""
_NO_TWIN = "its memory is written at once"
_NOBODY = "65534"


@pytest.fixture(params=[[], [_NOBODY]], ids=["root", "nobody"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    running = Subject(program.__file__, *request.param)
    yield running
    running.end()


def _check_instant(images: Path, subject: Subject) -> None:
    for pid in subject.pids():
        pages = content(images, pid)
        for start in program.AREAS:
            written = [pages.get(start + number * 4096, bytes(8)) for number in range(program.PAGES)]
            numbers = [struct.unpack_from("Q", page)[0] for page in written]
            assert numbers == sorted(numbers, reverse=True)
            assert numbers[0] - numbers[-1] <= 1


def test_pictures_of_one_instant(subject: Subject, tmp_path: Path) -> None:
    """What the four threads write while their memory is written is not in the images."""
    for number in range(2):
        outcome = attempt("dump", subject, tmp_path / str(number), *_OPTIONS)
        assert outcome.status == 0, outcome.log
        assert _NO_TWIN not in outcome.log
        _check_instant(tmp_path / str(number), subject)


def test_an_increment(subject: Subject, tmp_path: Path) -> None:
    run("pre-dump", subject, tmp_path / "0")
    outcome = attempt("dump", subject, tmp_path / "1", *_OPTIONS, "--prev-images-dir", "../0", "--track-mem")
    assert outcome.status == 0, outcome.log
    assert _NO_TWIN not in outcome.log
    _check_instant(tmp_path / "1", subject)


def test_the_images_are_those_of_a_plain_dump(subject: Subject, tmp_path: Path) -> None:
    """Byte for byte, of a tree that is stopped, so that nothing comes between the two. System calls that are to be
    restarted with what is left of their time (restart_syscall(2)) look different after the first dump of all."""
    os.killpg(subject.process.pid, signal.SIGSTOP)
    stats = [stat for pid in subject.pids() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    wait_until(lambda: all(stat.read_text().split()[2] == "T" for stat in stats), "all threads have stopped")
    run("dump", subject, tmp_path / "first", "-R")
    run("dump", subject, tmp_path / "snapshot", *_OPTIONS)
    run("dump", subject, tmp_path / "plain", "-R")
    names = sorted(os.listdir(tmp_path / "plain"))
    assert sorted(os.listdir(tmp_path / "snapshot")) == names
    for name in names:
        if name not in _OF_THE_DUMP:
            assert (tmp_path / "snapshot" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name


def test_no_task_has_a_child_more(subject: Subject, tmp_path: Path) -> None:
    """Neither afterwards nor while the twins are there."""
    script = _script(tmp_path, "post-dump", "print(children_of(int(os.environ['CRTOOLS_INIT_PID'])), file=out)")
    before = [children_of(pid) for pid in subject.pids()]
    run("dump", subject, tmp_path / "images", *_OPTIONS, "--action-script", script)
    assert (tmp_path / "out").read_text() == f"{before[0]}\n"
    assert [children_of(pid) for pid in subject.pids()] == before
    assert subject.ask("seen") == "0\n"


def test_tasks_that_can_not_be_given_a_twin(tmp_path: Path) -> None:
    """They write their memory themselves."""
    subject = Subject(program.__file__, _NOBODY)
    try:
        subject.do("limit")
        outcome = attempt("dump", subject, tmp_path / "images", *_OPTIONS)
        assert outcome.status == 0, outcome.log
        assert f"Task {subject.process.pid}: can't be given a twin, so {_NO_TWIN}" in outcome.log
        _check_instant(tmp_path / "images", subject)
        assert subject.ask("seen") == "0\n"
    finally:
        subject.end()


def test_a_twin_that_is_killed(subject: Subject, tmp_path: Path) -> None:
    """By want of memory, say. The dump has failed then, and nothing has happened to the task."""
    body = """
        def end(pid):
            for child, _ in map(str.split, children_of(pid)):
                with open(f"/proc/{child}/comm") as comm:
                    twin = comm.read() == "crucible-twin\\n"
                end(int(child))
                if twin:
                    os.kill(int(child), 9)
                    print(child, file=out)
        end(os.getppid())
    """
    script = _script(tmp_path, "post-dump", body)
    outcome = attempt("dump", subject, tmp_path / "images", *_OPTIONS, "--action-script", script)
    killed = (tmp_path / "out").read_text().split()
    assert len(killed) == 2
    assert outcome.status == 1
    assert any(f"its twin, process {pid}, has died" in outcome.log for pid in killed), outcome.log
    assert os.listdir(tmp_path / "images") == []
    assert subject.ask("seen") == "0\n"


def _script(place: Path, step: str, body: str) -> str:
    """An action script in Python. out: a file in `place`."""
    lines = body.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    body = "\n".join(line[indent:] for line in lines)
    path = place / "script.py"
    checkout = str(Path(__file__).parents[2])
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.path.insert(0, {checkout!r})\n"
        "from tests.harm.subject import children_of\n"
        f"if os.environ['CRTOOLS_SCRIPT_ACTION'] != {step!r}: sys.exit()\n"
        f"out = open({str(place / 'out')!r}, 'w')\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--snapshot"], "--snapshot is for tasks that go on (add --leave-running)"),
        ([*_OPTIONS, "--lazy-pages"], "--lazy-pages needs a tree that stands, --snapshot lets it go on (use one)"),
    ],
)
def test_what_makes_no_snapshot(subject: Subject, tmp_path: Path, options: list[str], message: str) -> None:
    outcome = attempt("dump", subject, tmp_path / "images", *options)
    assert outcome.status == 1
    assert message in outcome.log
    assert subject.ask("seen") == "0\n"
