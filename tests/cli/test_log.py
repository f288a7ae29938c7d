"""Form and destination of log lines."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import log
from engine.errors import CrError, Problems, Refused


@pytest.fixture(autouse=True)
def _stderr_again() -> Iterator[None]:
    yield
    log.setup(log.WARN)
    log.forget_first_error()


def test_levels(capfd: pytest.CaptureFixture[str]) -> None:
    for level in range(5):
        log.setup(level)
        log.error("e")
        log.warn("w")
        log.info("i")
        log.debug("d")
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == level
        assert all(re.match(r"\(\d{2,}\.\d{6}\) ", line) for line in lines) == (level >= 3) or level == 0


def test_lines_name_the_caller(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(log.WARN)
    log.error("broken")
    log.warn("odd")
    error, warning = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"Error \(test_log.py:\d+\): broken", error)
    assert re.fullmatch(r"Warn  \(test_log.py:\d+\): odd", warning)


def test_messages_go_to_stdout_whatever_the_log_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(0, str(tmp_path / "log"))
    log.msg("Looks good.")
    assert capfd.readouterr().out == "Looks good.\n"
    assert (tmp_path / "log").read_text() == ""


def test_a_log_file_is_private_and_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"
    fd = os.open(tmp_path, os.O_RDONLY)
    for text in ("first", "second"):
        log.setup(log.INFO, "dump.log", dir_fd=fd)
        log.info(text)
    os.close(fd)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(r"\(\d{2,}\.\d{6}\) second\n", path.read_text())


def test_a_dash_is_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(log.ERROR, "-")
    log.error("x")
    assert capfd.readouterr().out.endswith(": x\n")


def test_a_file_that_cannot_be_opened_leaves_the_log_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(log.ERROR)
    with pytest.raises(FileNotFoundError):
        log.setup(log.DEBUG, "/nonexistent/log")
    log.error("still here")
    assert "still here" in capfd.readouterr().err
    assert log.level() == log.ERROR


def test_every_line_of_a_text_has_its_time_stamp(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(log.DEBUG)
    log.debug("a\nb\n")
    assert re.fullmatch(r"(\(\d{2,}\.\d{6}\) [ab]\n){2}", capfd.readouterr().err)


def test_children_do_not_tear_lines(tmp_path: Path) -> None:
    log.setup(log.INFO, str(tmp_path / "log"))
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(200):
                log.info(str(number) * 300)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 800
    assert all(re.fullmatch(r"\(\d{2,}\.\d{6}\) (\d)\1{299}", line) for line in lines)


def test_the_first_error_is_remembered_even_when_it_is_not_shown() -> None:
    log.setup(0)
    assert log.first_error() is None
    log.error("first")
    log.error("second")
    assert log.first_error() == "first"
    log.forget_first_error()
    assert log.first_error() is None


def test_a_full_disk_does_not_stop_the_verb() -> None:
    log.setup(log.INFO, "/dev/full")
    log.info("lost")


def test_problems_become_one_error_with_all_reasons() -> None:
    problems = Problems()
    problems.raise_if_any("dump")
    problems.add("file /a is locked", task=7, remedy="use --file-locks")
    problems.add("file /a is locked", task=7, remedy="use --file-locks")
    problems.add("no such pid", cr_errno=3)
    with pytest.raises(Refused) as caught:
        problems.raise_if_any("dump")
    assert caught.value.reasons == ["task 7: file /a is locked (use --file-locks)", "no such pid"]
    assert caught.value.cr_errno == 3
    assert caught.value.message.startswith("dump refused, 2 reasons: task 7: file /a")


def test_the_place_of_an_error_is_where_it_was_raised() -> None:
    problems = Problems()
    problems.add("x")
    with pytest.raises(Refused) as caught:
        problems.raise_if_any("dump")
    assert re.fullmatch(r"test_log.py:\d+", log.place_of(caught.value))
    assert log.place_of(CrError("never raised")) == "unknown"
