"""Scripts of the user: order, environment, failures; and how a server says that it is ready."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.action_scripts import ActionScripts, announce_ready
from engine.errors import CrError
from engine.options import Options


@pytest.fixture
def opts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Options with the images directory open; its path is also the work directory."""
    monkeypatch.chdir(tmp_path)
    opts = Options()
    opts.images_dir_fd = os.open(tmp_path, os.O_RDONLY)
    return opts


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_without_scripts_every_step_succeeds(opts: Options) -> None:
    assert ActionScripts(opts).run("pre-dump")


def test_the_last_script_runs_first_and_all_run_although_one_fails(opts: Options, tmp_path: Path) -> None:
    for name, status in (("a", 0), ("b", 3), ("c", 0)):
        opts.action_script.append(script(tmp_path / name, f"echo {name} >> out; exit {status}"))
    assert not ActionScripts(opts).run("post-dump", init_pid=5)
    assert (tmp_path / "out").read_text() == "c\nb\na\n"


def test_what_a_script_is_told(opts: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRTOOLS_INIT_PID", "left over")
    told = 'echo "$# $CRTOOLS_SCRIPT_ACTION ${CRTOOLS_INIT_PID-unset} $(readlink $CRTOOLS_IMAGE_DIR) $(pwd)" >> out'
    opts.action_script.append(script(tmp_path / "a", told))
    scripts = ActionScripts(opts)
    assert scripts.run("pre-restore")
    assert scripts.run("post-restore", init_pid=17)
    assert (tmp_path / "out").read_text().splitlines() == [
        f"0 pre-restore unset {tmp_path} {tmp_path}",
        f"0 post-restore 17 {tmp_path} {tmp_path}",
    ]


def test_a_script_gets_the_signals_that_python_ignores(opts: Options, tmp_path: Path) -> None:
    """yes would run on and complain, with SIGPIPE ignored."""
    opts.action_script.append(script(tmp_path / "a", "(yes; echo $? > out) 2> err | head -n 1 > /dev/null"))
    assert ActionScripts(opts).run("pre-dump")
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.parametrize(("body", "how"), [("exit 9", "exited with status 9"), ("kill -9 $$", "killed by signal 9")])
def test_failures_are_told(
    opts: Options, tmp_path: Path, capfd: pytest.CaptureFixture[str], body: str, how: str
) -> None:
    opts.action_script.append(script(tmp_path / "a", body))
    assert not ActionScripts(opts).run("pre-dump")
    assert how in capfd.readouterr().err


def test_a_script_that_cannot_be_run_is_found_out_first(opts: Options, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    for bad in ("nonexistent", "text", "."):
        opts.action_script = [bad]
        with pytest.raises(CrError, match="is not an executable file"):
            ActionScripts(opts)


def test_a_file_that_is_no_program_is_a_failed_script(opts: Options, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("#!/nonexistent\n")
    (tmp_path / "a").chmod(0o755)
    opts.action_script = ["./a"]
    assert not ActionScripts(opts).run("pre-dump")


def test_ready_is_a_script_and_a_zero_byte_and_the_end_of_the_pipe(opts: Options, tmp_path: Path) -> None:
    opts.action_script.append(script(tmp_path / "a", "echo $CRTOOLS_SCRIPT_ACTION > out"))
    reader, opts.status_fd = os.pipe()
    announce_ready(opts, ActionScripts(opts))
    with open(reader, "rb") as file:
        assert file.read() == b"\0"
    assert (tmp_path / "out").read_text() == "status-ready\n"
    announce_ready(opts, ActionScripts(opts))
