"""Whole commands: exit status, streams, files, and that they start fast."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine import __version__, cli, log
from engine.errors import CrError
from engine.options import COMMANDS

ENGINE = [sys.executable, "-m", "engine"]
# What no command may load before it knows that it needs it. 60 ms is all a start may take.
HEAVY = {"google.protobuf", "ctypes", "typing", "argparse", "logging", "dataclasses", "contextlib", "traceback"}


def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, without the configuration files of this machine."""
    environment = {**os.environ, "HOME": "/nonexistent", **(env or {})}
    return subprocess.run([*ENGINE, *args], capture_output=True, text=True, env=environment, check=False)


def call(monkeypatch: pytest.MonkeyPatch, verb: object, *args: str) -> int:
    """One command in this process, with another function for the verb. The current directory comes back."""
    monkeypatch.setattr(cli, "_verb", lambda opts: verb)
    monkeypatch.setenv("HOME", "/nonexistent")
    here = os.getcwd()
    try:
        return cli.main(["crucible", *args])
    finally:
        os.chdir(here)
        log.setup(log.WARN)


def test_no_arguments_is_usage_and_failure() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Usage:\n  crucible dump -t PID")


def test_help_is_usage_and_success() -> None:
    result = run("dump", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "      --ghost-limit SIZE " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_version() -> None:
    assert run("-V").stdout == f"Version: {__version__}\n"


def test_version_for_callers_of_criu(capsys: pytest.CaptureFixture[str]) -> None:
    """runc and others want criu's version, to know what they can ask for."""
    assert cli.main(["/usr/sbin/criu", "--version"]) == 0
    assert capsys.readouterr().out == f"Version: 4.2\nCrucible {__version__}\n"


@pytest.mark.parametrize("command", ["exec", "show"])
def test_deprecated_commands(command: str) -> None:
    result = run(command, "whatever")
    assert result.returncode == 255
    assert "deprecated" in result.stderr


def test_every_command_has_its_verb() -> None:
    assert set(cli._VERBS) == set(COMMANDS)


def test_options_that_are_not_served_are_refused() -> None:
    result = run("dump", "-t", "1", "--stream", "-M", "/a:b", "--cgroup-root", "/c")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "--cgroup-root (another place for control groups) is not supported by this engine",
        "--stream (image streamers) is not supported by this engine",
    ]


def test_a_bad_option_is_one_line() -> None:
    result = run("dump", "--nonsense")
    assert result.returncode == 1
    assert re.fullmatch(r"Error \(engine/argv.py:\d+\): unknown option --nonsense, see --help\n", result.stderr)


def test_images_are_opened_before_the_work_directory_is_entered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    seen = []

    def verb(opts: cli.Options) -> int:
        seen.append((os.getcwd(), os.readlink(f"/proc/self/fd/{opts.images_dir_fd}")))
        log.info("hello")
        os.close(opts.images_dir_fd)
        return 7

    assert call(monkeypatch, verb, "check", "-D", "images", "-W", "work", "-o", "the.log", "-v4") == 7
    assert seen == [(str(tmp_path / "work"), str(tmp_path / "images"))]
    written = tmp_path / "work/the.log"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert "hello" in written.read_text()


def test_the_work_directory_is_the_images_directory_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def verb(opts: cli.Options) -> int:
        seen.append(os.getcwd())
        os.close(opts.images_dir_fd)
        return 0

    call(monkeypatch, verb, "check", "-D", str(tmp_path))
    assert seen == [str(tmp_path)]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("-D", "/nonexistent"), "images directory /nonexistent cannot be opened: No such file or directory"),
        (("-W", "/dev/null"), "work directory /dev/null cannot be opened: Not a directory"),
        (("-o", "/nonexistent/log"), "log file /nonexistent/log cannot be opened in the work directory: No such"),
        (("--close", "777"), "--close 777: Bad file descriptor"),
    ],
)
def test_directories_and_descriptors_that_are_not_there(args: tuple[str, ...], error: str) -> None:
    result = run("check", *args)
    assert result.returncode == 1
    assert f"): {error}" in result.stderr


def test_every_reason_is_a_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from engine.errors import Problems

    def verb(_opts: cli.Options) -> int:
        problems = Problems()
        problems.add("first")
        problems.add("second")
        problems.raise_if_any("check")
        return 0

    assert call(monkeypatch, verb, "check") == 1
    first, second = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"Error \(test_cli.py:\d+\): first", first)
    assert re.fullmatch(r"Error \(test_cli.py:\d+\): second", second)


def test_an_unexpected_exception_is_one_line_and_a_traceback_for_level_4(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def verb(_opts: cli.Options) -> int:
        raise KeyError("x")

    assert call(monkeypatch, verb, "check") == 1
    assert re.fullmatch(r"Error \(test_cli.py:\d+\): internal error KeyError: 'x'\n", capfd.readouterr().err)
    assert call(monkeypatch, verb, "check", "-v4") == 1
    assert "Traceback (most recent call last)" in capfd.readouterr().err


def test_an_interrupt_is_a_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def verb(_opts: cli.Options) -> int:
        raise KeyboardInterrupt

    assert call(monkeypatch, verb, "check") == 1
    assert capfd.readouterr().err.endswith(": interrupted\n")


def test_an_error_of_the_verb_is_in_the_log_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verb(_opts: cli.Options) -> int:
        raise CrError("no such task")

    assert call(monkeypatch, verb, "check", "-W", str(tmp_path), "-o", "log") == 1
    assert (tmp_path / "log").read_text().endswith(": no such task\n")


@pytest.mark.parametrize("args", [["--version"], ["check", "--nonsense"], ["check"]])
def test_commands_load_no_more_than_they_need(args: list[str]) -> None:
    """-S, and no -m: an editable installation and runpy load some of these before us."""
    start = "import sys; from engine.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-c", start, *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in result.stderr.splitlines() if "|" in line}
    assert "engine.cli" in loaded
    unwanted = HEAVY if args != ["check"] else HEAVY - {"ctypes", "typing", "contextlib"}
    assert not loaded & unwanted
