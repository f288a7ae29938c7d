"""Progress on a terminal, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import socket
import sys
from typing import TYPE_CHECKING

import pytest

import engine.cli
from engine import log, progress
from engine.progress import Progress
from tests.harm.subject import Subject
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MIB = 1 << 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes long here."""
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0)
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0)


def _on_terminal(work: Callable[[], object]) -> str:
    """What a process prints, whose terminal this is. It must end with 0."""
    pid, terminal = pty.fork()
    if not pid:
        status = 1
        with contextlib.suppress(BaseException):
            status = int(bool(work()))
        os._exit(status)
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
        while part := os.read(terminal, 1 << 16):
            said += part
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, said
    return said.decode()


def _work(steps: int = 20) -> None:
    with Progress("Digging") as work:
        work.expect(steps * _MIB)
        for _ in range(steps):
            work.add(_MIB)


def test_line() -> None:
    """What, how much of how much, how fast, how long yet; and it is gone in the end."""
    said = _on_terminal(_work)
    lines = said.split("\r\x1b[K")
    assert re.search(r"Digging .*10\.0/20\.0\s+MiB .*/s .*0:0\d:\d\d", lines[9]), lines
    assert lines[-1] == ""
    assert "\n" not in said
    assert "?25l" not in said, "a cursor that is hidden stays so when the engine is killed"


def test_work_of_unknown_size() -> None:
    def work() -> None:
        with Progress("Receiving") as receiving:
            for _ in range(3):
                receiving.add(_MIB)

    assert re.search(r"Receiving .*2\.0/\?\s+MiB", _on_terminal(work))


def test_lines_of_the_log_have_lines_of_their_own() -> None:
    def work() -> None:
        with Progress("Digging") as digging:
            for _ in range(3):
                digging.add(_MIB)
            log.warn("a stone")
            digging.add(_MIB)

    assert re.search(r"\r\x1b\[KWarn  \(.*\): a stone\r\n\r\x1b\[K", _on_terminal(work))


def test_short_work_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 1000)
    assert _on_terminal(_work) == ""


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is loaded for it."""
    monkeypatch.delitem(sys.modules, "rich.progress", raising=False)
    read_end, write_end = os.pipe()
    saved = os.dup(2)
    try:
        os.dup2(write_end, 2)
        os.close(write_end)
        _work()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert os.read(read_end, 1) == b""
    os.close(read_end)
    assert "rich.progress" not in sys.modules


def test_a_terminal_that_nobody_reads_is_not_waited_for() -> None:
    pid, terminal = pty.fork()
    if not pid:
        _work(1000)
        os._exit(0)
    ended = os.pidfd_open(pid)
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_background_is_silent() -> None:
    """Where it would be stopped."""

    def work() -> int:
        import termios

        mode = termios.tcgetattr(2)
        mode[3] |= termios.TOSTOP
        termios.tcsetattr(2, termios.TCSANOW, mode)
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            _work()
            os._exit(0)
        return os.waitpid(child, os.WUNTRACED)[1]

    assert _on_terminal(work) == ""


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    with Subject(tmp_path / "subject") as running:
        yield running


def _crucible(*words: object) -> int:
    return engine.cli.main(["crucible", *map(str, words)])


def _command(*words: object) -> str:
    return _on_terminal(lambda: _crucible(*words))


def _images(place: Path) -> Path:
    place.mkdir()
    return place


@pytest.mark.parametrize("options", [["-R"], ["-R", "--snapshot"]], ids=["plain", "snapshot"])
def test_a_dump_shows_it(subject: Subject, tmp_path: Path, options: list[str]) -> None:
    said = _command("dump", "-t", subject.pid, "-D", _images(tmp_path / "0"), "--link-remap", *options)
    assert re.search(r"Writing memory .*\d/\d+\.\d\s+MiB", said), said


def test_a_pre_dump_and_a_restore_show_it(subject: Subject, tmp_path: Path) -> None:
    said = _command("pre-dump", "-t", subject.pid, "-D", _images(tmp_path / "0"))
    assert re.search(r"Writing memory .*\d/\d+\.\d\s+MiB", said), said
    images = _images(tmp_path / "1")
    _command("dump", "-t", subject.pid, "-D", images, "--prev-images-dir", "../0", "--link-remap")
    subject.process.wait()
    wait_until(subject.gone, "the dumped tree is gone")
    said = _command("restore", "-d", "-D", images)
    assert re.search(r"Reading memory .*\d/\d+\.\d\s+MiB", said), said
    subject.check_counting()


def _aside(*words: object, ready: int = -1) -> int:
    """The pid of a command that says nothing here, and is not begun before something can be read from `ready`."""
    child = os.fork()
    if not child:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        if ready >= 0:
            os.read(ready, 1)
        os._exit(_crucible(*words))
    return child


def test_a_page_server_shows_it(subject: Subject, tmp_path: Path) -> None:
    here, there = _images(tmp_path / "here"), _images(tmp_path / "there")

    def work() -> int:
        ours, theirs = socket.socketpair()
        where = ["--page-server", "--ps-socket", theirs.fileno()]
        child = _aside("dump", "-t", subject.pid, "-R", "-D", here, "--link-remap", *where)
        theirs.close()
        status = _crucible("page-server", "-D", there, "--ps-socket", ours.fileno())
        return status or os.waitpid(child, 0)[1]

    said = _on_terminal(work)
    assert re.search(r"Receiving memory .*\d/\?\s+MiB", said), said


def test_a_lazy_restore_shows_it(subject: Subject, tmp_path: Path) -> None:
    """The daemon, that is."""
    images = _images(tmp_path / "images")
    _command("dump", "-t", subject.pid, "-D", images, "--link-remap")
    subject.process.wait()
    wait_until(subject.gone, "the dumped tree is gone")

    def work() -> int:
        ready, tells = os.pipe()
        child = _aside("restore", "-d", "--lazy-pages", "-D", images, ready=ready)
        status = _crucible("lazy-pages", "-D", images, "--status-fd", tells)
        return status or os.waitpid(child, 0)[1]

    said = _on_terminal(work)
    assert re.search(r"Bringing memory .*\d/\d+\.\d\s+MiB", said), said
    subject.check_counting()
