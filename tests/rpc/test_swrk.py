"""Real processes through swrk, as runc and libcriu use it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.rpc.conftest import SWRK, await_end, is_running
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, request, started

_DUMP_STEPS = ["pre-dump", "query-ext-files", "post-dump"]
_RESTORE_STEPS = ["pre-restore", "post-restore", "pre-resume", "post-resume"]


def test_there_and_back_as_runc_asks_for_it(sleeper: int, images: str, tmp_path: Path) -> None:
    """Directories are descriptors of the client's that the engine has not inherited, steps are notified. It tells of
    mounts, devices and networks whether the tree has any or not."""
    (tmp_path / "work").mkdir()
    here = {"images_dir_fd": os.open(images, os.O_RDONLY), "work_dir_fd": os.open(tmp_path / "work", os.O_RDONLY)}
    common = {**here, "log_level": 4, "notify_scripts": True, "shell_job": False, "file_locks": True}
    common |= {"tcp_established": True, "ext_unix_sk": True, "manage_cgroups": True, "manage_cgroups_mode": 3}
    common |= {"root": images, "empty_ns": 0x40000000, "ext_mnt": [{"key": "/etc/hosts", "val": "/etc/hosts"}]}
    told = {"external": ["net[4026531840]:extRootNetNS"], "tcp_skip_in_flight": True}
    with started(SWRK) as client:
        said = {"pid": sleeper, "log_file": "dump.log", "orphan_pts_master": True, **told, **common}
        answer = client.ask("DUMP", said)
        assert answer.success, answer
        assert not answer.dump.restored
        assert client.steps == [(step, 0) for step in _DUMP_STEPS]
        assert client.process.wait(30) == 0
    await_end(sleeper)
    made = {"evasive_devices": True, "rst_sibling": True, "veths": [{"if_in": "eth0", "if_out": "veth0"}]}
    with started(SWRK) as client:
        answer = client.ask("RESTORE", {"log_file": "restore.log", "orphan_pts_master": True, **made, **common})
        assert answer.success, answer
        assert answer.restore.pid == sleeper
        assert client.steps == [(step, sleeper if step == "post-restore" else 0) for step in _RESTORE_STEPS]
    assert is_running(sleeper)
    assert "Dumping finished successfully" in (tmp_path / "work/dump.log").read_text()
    assert {"stats-dump", "stats-restore", "restore.log"} <= set(os.listdir(tmp_path / "work"))
    for fd in here.values():
        os.close(fd)


@pytest.mark.parametrize("step", _DUMP_STEPS)
def test_a_client_that_says_no_to_a_step_of_a_dump(sleeper: int, images: str, step: str) -> None:
    with started(SWRK) as client:
        client.on_notify = lambda script, _pid, _fd: script != step
        answer = client.ask("DUMP", {"pid": sleeper, "images_dir": images, "notify_scripts": True})
        assert not answer.success
        assert answer.cr_errno
        assert answer.cr_errmsg.startswith(f"the client says that {step} failed")
        assert [name for name, _ in client.steps] == _DUMP_STEPS[: _DUMP_STEPS.index(step) + 1]
    assert is_running(sleeper)


@pytest.mark.parametrize("step", ["pre-restore", "post-restore"])
def test_a_client_that_says_no_to_a_step_of_a_restore(sleeper: int, images: str, step: str) -> None:
    _dump(sleeper, images)
    with started(SWRK) as client:
        client.on_notify = lambda script, _pid, _fd: script != step
        answer = client.ask("RESTORE", {"images_dir": images, "notify_scripts": True})
        assert (answer.success, answer.restore.pid) == (False, -1)
        assert answer.cr_errno
        assert step in answer.cr_errmsg
    await_end(sleeper)


@pytest.mark.parametrize("answer", ["VERSION", "end"])
def test_a_client_that_does_not_answer_a_step(sleeper: int, images: str, answer: str) -> None:
    """It says something else, or is gone: the dump fails, the task runs on."""
    with started(SWRK) as client:
        client.send(request("DUMP", {"pid": sleeper, "images_dir": images, "notify_scripts": True}))
        assert client.receive()[0].notify.script == "pre-dump"
        if answer == "VERSION":
            client.send(request("VERSION"))
            assert not client.receive()[0].success
        else:
            client.sock.close()
        assert client.process.wait(30) == 1
    assert is_running(sleeper)


def test_a_client_names_external_files_when_asked(images: str) -> None:
    """Here the peer of a socket, which nothing else allows to be left behind."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    words = ["sleep", "1000"]
    with ours, its, started(SWRK) as client, subprocess.Popen(words, stdin=its, start_new_session=True) as task:
        client.externals = [f"unix[{os.fstat(ours.fileno()).st_ino}]"]
        wait_until(lambda: b"sleep" in Path(f"/proc/{task.pid}/cmdline").read_bytes(), "it has begun")
        said = {"pid": task.pid, "images_dir": images, "notify_scripts": True, "leave_running": True}
        answer = client.ask("DUMP", said)
        with started(SWRK) as another:
            refusal = another.ask("DUMP", said)
        task.kill()
    assert answer.success, answer
    assert "is not in the tree" in refusal.cr_errmsg


def _dump(pid: int, images: str) -> None:
    with started(SWRK) as client:
        answer = client.ask("DUMP", {"pid": pid, "images_dir": images})
        assert answer.success, answer
    await_end(pid)


def test_pre_dumps_and_the_dump_that_builds_on_them(sleeper: int, tmp_path: Path) -> None:
    """One connection carries them all; another request in between is none."""
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    said = {"pid": sleeper, "track_mem": True}
    with started(SWRK) as client:
        for number in range(2):
            parent = {"parent_img": f"../{number - 1}"} if number else {}
            assert client.ask("PRE_DUMP", {"images_dir": str(tmp_path / str(number)), **parent, **said}).success
            assert is_running(sleeper)
        answer = client.ask("DUMP", {"images_dir": str(tmp_path / "2"), "parent_img": "../1", **said})
        assert answer.success, answer
        assert client.process.wait(30) == 0
    await_end(sleeper)
    with started(SWRK) as client:
        assert client.ask("RESTORE", {"images_dir": str(tmp_path / "2")}).success
    with started(SWRK, stderr=subprocess.DEVNULL) as client:
        assert client.ask("PRE_DUMP", {"images_dir": str(tmp_path / "0"), **said}).success
        answer = client.ask("VERSION")
        assert (answer.type, answer.success) == (0, False)
    with started(SWRK) as client:
        assert client.ask("SINGLE_PRE_DUMP", {"images_dir": str(tmp_path / "0"), **said}).success
        assert client.process.wait(30) == 0


def test_refused_options_are_in_the_log(sleeper: int, images: str, tmp_path: Path) -> None:
    """Where runc tells people to look: it shows no message."""
    with started(SWRK) as client:
        said = {"pid": sleeper, "images_dir": images, "log_file": "dump.log", "inherit_fd": [{"key": "k", "fd": 1}]}
        answer = client.ask("DUMP", said)
        assert (answer.success, answer.cr_errno) == (False, 56)
    assert "--inherit-fd works with restore only" in (tmp_path / "images/dump.log").read_text()


def test_a_pid_in_use(sleeper: int, images: str) -> None:
    with started(SWRK) as client:
        assert client.ask("DUMP", {"pid": sleeper, "images_dir": images, "leave_running": True}).success
    assert is_running(sleeper)
    with started(SWRK) as client:
        answer = client.ask("RESTORE", {"images_dir": images})
        assert (answer.success, answer.cr_errno, answer.restore.pid) == (False, 17, -1)
        assert f"pid {sleeper} is in use" in answer.cr_errmsg


def test_a_sibling_and_the_command_that_takes_the_place_of_the_engine(
    sleeper: int, images: str, tmp_path: Path
) -> None:
    """The root becomes the client's child; the command runs with its output in the log, after the answer."""
    _dump(sleeper, images)
    said = {"images_dir": images, "rst_sibling": True, "exec_cmd": ["sh", "-c", "echo here; echo there >&2"]}
    with started(SWRK) as client:
        assert client.ask("RESTORE", said).restore.pid == sleeper
        assert client.process.wait(30) == 0
    with open(f"/proc/{sleeper}/status") as status:
        assert f"PPid:\t{os.getpid()}\n" in status.read()
    assert (tmp_path / "images/criu.log").read_text().endswith("here\nthere\n")


def test_an_inherited_descriptor(tmp_path: Path, images: str) -> None:
    """A pipe to the outside, which is another one after the restore. Its number is the engine's own."""
    reader, writer = os.pipe()
    program = subprocess.Popen(
        ["sh", "-c", "exec sleep 1000"], stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd="/",
    )  # fmt: skip
    cmdline = Path(f"/proc/{program.pid}/cmdline")
    wait_until(lambda: cmdline.read_bytes().startswith(b"sleep"), "it sleeps")
    key = os.readlink(f"/proc/{program.pid}/fd/0")
    try:
        with started(SWRK) as client:
            answer = client.ask("DUMP", {"pid": program.pid, "images_dir": images})
            assert answer.success, answer
        program.wait()
        other_reader, other_writer = os.pipe()
        os.set_inheritable(other_reader, True)
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Client(ours) as client:
            with its:
                process = subprocess.Popen([*SWRK, str(its.fileno())], pass_fds=[its.fileno(), other_reader])
            given = [{"key": key, "fd": other_reader}]
            answer = client.ask("RESTORE", {"images_dir": images, "inherit_fd": given, "rst_sibling": True})
            assert answer.success, answer
            process.wait()
        assert os.readlink(f"/proc/{program.pid}/fd/0") == os.readlink(f"/proc/self/fd/{other_reader}")
        os.close(other_writer)
    finally:
        os.kill(program.pid, signal.SIGKILL)
        os.waitpid(program.pid, 0)
        for fd in (reader, writer, other_reader):
            os.close(fd)


def test_the_title_says_what_it_does(sleeper: int, images: str) -> None:
    titles: list[str] = []

    def look(_script: str, _pid: int, _fd: int) -> bool:
        with open(f"/proc/{client.process.pid}/cmdline", "rb") as file:
            titles.append(file.read().rstrip(b"\0").decode())
        return True

    with started(SWRK) as client:
        client.on_notify = look
        assert client.ask("DUMP", {"pid": sleeper, "images_dir": images, "notify_scripts": True}).success
    assert f"criu: dump --rpc -t {sleeper} -D {images}".startswith(titles[0])
    assert len(titles[0]) > 20


def test_the_worker_is_killed(sleeper: int, images: str) -> None:
    """Nothing has happened, and the client is told."""

    def kill(script: str, _pid: int, _fd: int) -> bool:
        if script == "post-dump":
            with open(f"/proc/{client.process.pid}/task/{client.process.pid}/children") as children:
                for pid in children.read().split():
                    os.kill(int(pid), signal.SIGKILL)
        return True

    with started(SWRK) as client:
        client.on_notify = kill
        answer = client.ask("DUMP", {"pid": sleeper, "images_dir": images, "notify_scripts": True})
        assert not answer.success
        assert "was killed by SIGKILL" in answer.cr_errmsg
    wait_until(lambda: is_running(sleeper), "the task runs on")


def test_default_configuration_files_are_read(sleeper: int, images: str, tmp_path: Path) -> None:
    """They come first, the file of the request comes last, scripts of either run after the client was told."""
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\necho "$CRTOOLS_SCRIPT_ACTION" >> {tmp_path}/seen\n')
    script.chmod(0o755)
    (tmp_path / "request.conf").write_text(f"action-script {script}\nlog-file of-file.log\n")
    (tmp_path / ".criu").mkdir()
    (tmp_path / ".criu/default.conf").write_text("leave-running\nlog-file of-default.log\n")
    with started(SWRK, env={**os.environ, "HOME": str(tmp_path)}) as client:
        said = {"pid": sleeper, "images_dir": images, "config_file": str(tmp_path / "request.conf")}
        assert client.ask("DUMP", {**said, "notify_scripts": True}).success
    assert is_running(sleeper)
    assert (tmp_path / "seen").read_text().split() == ["pre-dump", "post-dump"]
    assert "of-file.log" in os.listdir(images)
