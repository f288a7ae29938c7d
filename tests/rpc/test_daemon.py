"""The service as a daemon: its files, its end, sockets that systemd passes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.disk import leave
from tests.rpc.conftest import ENGINE, answers, serving
from tests.waiting import wait_until
from zdtm.harness.rpc import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_its_files_and_its_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--pidfile", "pid", "--address", "here") as daemon:
        assert int((tmp_path / "pid").read_text()) == daemon.process.pid
        assert answers(str(tmp_path / "here"))
    assert os.listdir(tmp_path) == ["service.log"]


def test_a_name_is_taken_over_from_a_dead_service_only(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        run = _start(tmp_path)
        assert run.returncode == 1
        assert f"can't listen at {first.address}: Address already in use" in run.stderr
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    assert os.path.exists(first.address)
    with serving(tmp_path) as second:
        assert answers(second.address)


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    run = _start(tmp_path, "--address", "file")
    assert run.returncode == 1
    assert "Address already in use" in run.stderr
    assert (tmp_path / "file").read_text() == "precious"


def test_a_pidfile_that_exists(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1")
    run = _start(tmp_path, "--pidfile", "pid")
    assert run.returncode == 1
    assert "pid file pid: File exists" in run.stderr
    assert sorted(os.listdir(tmp_path)) == ["pid"]


def test_a_pidfile_on_a_full_disk(tmp_path: Path, disk: Path) -> None:
    """None is left that would be in the way of the next one."""
    leave(disk, 0)
    for _ in range(2):
        run = _start(tmp_path, "--pidfile", str(disk / "pid"))
        assert run.returncode == 1
        assert f"pid file {disk}/pid: No space left on device" in run.stderr
    assert os.listdir(tmp_path) == ["disk"]


@pytest.mark.parametrize("room", range(4, 8))
def test_more_clients_than_descriptors(tmp_path: Path, room: int) -> None:
    """They wait or are told so, and the service waits, rather than try again and again."""
    with serving(tmp_path) as daemon, ExitStack() as clients:
        assert answers(daemon.address)
        wait_until(lambda: len(daemon.workers()) == 1, "one worker stands by")
        there = [int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd")]
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (max(there) + room,) * 2)
        opened = [clients.enter_context(Client.connected(daemon.address)) for _ in range(12)]
        wait_until(lambda: "Too many open files" in daemon.log, "it has run out of them")
        for client in opened:
            client.sock.close()
        wait_until(lambda: len(daemon.workers()) <= 1, "nobody else is left, dead or alive")
        assert answers(daemon.address)
        assert daemon.log.count("Too many open files") < 40


def _start(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [*ENGINE, "service", "-W", str(tmp_path), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_daemon_in_the_background(tmp_path: Path, sleeper: int, images: str) -> None:
    """The command ends when the service can be connected to."""
    run = _start(tmp_path, "--daemon", "--pidfile", "pid", "-o", "log")
    assert (run.returncode, run.stderr) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    try:
        with Client.connected(str(tmp_path / "criu_service.socket")) as client:
            assert client.ask("DUMP", {"pid": sleeper, "images_dir": images, "leave_running": True}).success
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists(), "it has ended")


def test_a_daemon_that_can_not_start_says_so(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1")
    assert _start(tmp_path, "--daemon", "--pidfile", "pid", "-o", "log").returncode == 1
    assert "pid file pid: File exists" in (tmp_path / "log").read_text()


def _activated(tmp_path: Path, sock: socket.socket, count: int = 1) -> subprocess.Popen[bytes]:
    """Start a service as systemd does: the socket is descriptor 3, LISTEN_PID its own pid."""
    start = "import os; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv({0!r}, [{0!r}, *{1!r}])"
    words = [*ENGINE[1:], "service", "-W", str(tmp_path), "-o", "log"]
    os.dup2(sock.fileno(), 3) if sock.fileno() != 3 else os.set_inheritable(3, True)
    return subprocess.Popen(
        [ENGINE[0], "-c", start.format(ENGINE[0], words)], pass_fds=[3], env={**os.environ, "LISTEN_FDS": str(count)}
    )


@pytest.fixture
def third_is_free() -> Iterator[None]:
    """Descriptor 3 of this process is put aside for the while."""
    kept = os.dup(3) if os.path.exists("/proc/self/fd/3") else -1
    yield
    if kept >= 0:
        os.dup2(kept, 3)
        os.close(kept)
    elif os.path.exists("/proc/self/fd/3"):
        os.close(3)


def test_systemd_passes_the_socket(tmp_path: Path, third_is_free: None) -> None:
    name = str(tmp_path / "passed")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(name)
        sock.listen()
        process = _activated(tmp_path, sock)
        with Client.connected(name) as client:
            assert client.ask("VERSION").success
        process.terminate()
        assert process.wait(30) == 0
    assert os.path.exists(name), "the name is systemd's to remove"
    assert not os.path.exists(tmp_path / "criu_service.socket")


def test_what_systemd_may_not_pass(tmp_path: Path, third_is_free: None) -> None:
    for kind, count, text in (
        (socket.SOCK_STREAM, 1, "is none that ListenSequentialPacket= with a path makes"),
        (socket.SOCK_SEQPACKET, 2, "systemd has passed 2 sockets"),
    ):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.bind("")
            sock.listen()
            assert _activated(tmp_path, sock, count).wait(60) == 1
        assert text in (tmp_path / "log").read_text()
