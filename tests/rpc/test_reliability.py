"""The disk is full, somebody goes, or the service dies while it works: the client is told why if it is there, the tree
is unharmed, and the service goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

import engine.dump_tree
from engine import worker
from engine.options import Options
from engine.rpc.link import Link
from engine.rpc.session import Session
from tests.disk import SIZE, leave
from tests.harm import stepper
from tests.rpc.conftest import dump_all
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harm.subject import Subject
    from tests.rpc.conftest import Daemon

_TRIALS = 8


def _await_idle(daemon: Daemon) -> None:
    wait_until(lambda: len(daemon.workers()) == 1, "no worker is left but the one that stands by")


def test_a_disk_that_is_full_at_any_moment_of_a_dump(daemon: Daemon, subject: Subject, disk: Path) -> None:
    """Of room for anything from a page to nearly all."""
    said = {"pid": subject.pid, "leave_running": True, "link_remap": True}
    images = leave(disk, SIZE // 2)
    with Client.connected(daemon.address) as client:
        assert client.ask("DUMP", {**said, "images_dir": str(images)}).success
    needed = sum(path.stat().st_blocks * 512 for path in images.iterdir())
    for name in subject.remaps():
        os.unlink(subject.place / name)
    for eighth in range(8):
        images = leave(disk, max(4096, needed * eighth // 8 - 16384))
        with Client.connected(daemon.address) as client:
            answer = client.ask("DUMP", {**said, "images_dir": str(images)})
        assert not answer.success
        assert "No space left on device" in answer.cr_errmsg
        subject.check_unharmed()
        assert not subject.remaps()
        assert [path.name for path in images.iterdir() if path.suffix == ".img"] == []
    _await_idle(daemon)


def test_a_disk_that_is_full_at_a_restore(daemon: Daemon, subject: Subject, disk: Path, tmp_path: Path) -> None:
    """Log and statistics go to the work directory: what can't be written there is no harm, or leaves nothing."""
    images = tmp_path / "images"
    images.mkdir()
    dump_all(subject, images)
    work = leave(disk, 4096)
    (work / "filler").write_bytes(b"x" * 4096)
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    with Client.connected(daemon.address) as client:
        answer = client.ask("RESTORE", {"images_dir": str(images), "work_dir_fd": fd})
    os.close(fd)
    assert subject.settles("a full disk") == answer.success
    assert answer.success or "No space left on device" in answer.cr_errmsg


class Worker:
    """A worker of a service in the hands of a stepper. Whoever stands for the service waits for it."""

    def __init__(self, kind: str, options: dict[str, object]) -> None:
        self._said = request(kind, options).SerializeToString()

    def run(self, at: int = 0, victim: str = "") -> tuple[int, bool | None]:
        """See stepper.run(). How many steps there were, and what the client has been told; None: nothing."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Client(ours) as client:
            with its:
                ours.send(self._said)
                steps = stepper.run(lambda: self._serve(its), at, victim).steps
            with contextlib.suppress(EOFError, ConnectionError):
                return steps, client.receive()[0].success
        return steps, None

    @staticmethod
    def _serve(connection: socket.socket) -> int:
        """As engine.rpc.service does, with one worker."""
        service = os.getpid()
        pid = os.fork()
        if not pid:
            status = 1
            with contextlib.suppress(BaseException):
                if worker.bind(service):
                    session = Session(Link(connection), Options(), lambda _: worker.run_bound, in_service=True)
                    status = session.serve()
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _some(steps: int, seed: int) -> list[int]:
    """Steps from all over, others for each seed."""
    distance = max(1, steps // _TRIALS)
    return list(range(1 + seed * distance // 4, steps + 1, distance))


@pytest.mark.parametrize(("victim", "seed"), [("worker", 0), ("engine", 1), ("", 2)])
def test_a_step_of_a_dump(subject: Subject, tmp_path: Path, victim: str, seed: int) -> None:
    """The worker is killed, the service is killed, or a system call fails."""
    engine.dump_tree.load_ahead()
    said = {"pid": subject.pid, "images_dir": str(tmp_path), "leave_running": True, "link_remap": True}
    dump = Worker("DUMP", said)
    dump.run()
    steps, told = dump.run()
    assert told, (tmp_path / "criu.log").read_text()
    for step in _some(steps, seed):
        dump.run(step, victim)
        subject.check_unharmed()
        for name in subject.remaps():
            os.unlink(subject.place / name)


@pytest.mark.parametrize(("victim", "seed"), [("worker", 0), ("engine", 1), ("", 2)])
def test_a_step_of_a_restore(subject: Subject, tmp_path: Path, victim: str, seed: int) -> None:
    images, keep = tmp_path / "images", tmp_path / "keep"
    images.mkdir()
    dump_all(subject, images)
    shutil.copytree(subject.place, keep)
    restore = Worker("RESTORE", {"images_dir": str(images)})
    steps, told = restore.run()
    assert told
    assert subject.settles("nobody is killed"), (images / "criu.log").read_text()
    _end(subject)
    for step in _some(steps, seed):
        shutil.copytree(keep, subject.place, dirs_exist_ok=True)
        _, told = restore.run(step, victim)
        there = subject.settles(f"step {step} of {steps}")
        assert told in (there, None)
        if there:
            _end(subject)


def _end(subject: Subject) -> None:
    subject.end()
    wait_until(subject.gone, "the restored tree has been killed")


@pytest.mark.parametrize(
    ("step", "how"),
    [(0, "closes"), (0, "says rubbish"), (1, "says too much"), (2, "resets")],
)
def test_a_client_at_a_step_of_a_restore(daemon: Daemon, subject: Subject, tmp_path: Path, step: int, how: str) -> None:
    """It answers so many steps and then no more. What it says to the third one, pre-resume, makes no difference."""
    images = tmp_path / "images"
    images.mkdir()
    dump_all(subject, images)
    with Client.connected(daemon.address) as client:
        client.send(request("RESTORE", {"images_dir": str(images), "notify_scripts": True}))
        for _ in range(step):
            assert client.receive()[0].notify.script
            client.send(request("NOTIFY", notify_success=True))
        if how != "closes":
            client.receive()
        if how.startswith("says"):
            client.sock.send(b"\xff" * (1 << 17 if how == "says too much" else 100))
            with contextlib.suppress(EOFError, ConnectionError):
                client.receive()
    _await_idle(daemon)
    assert subject.settles(f"{how} after {step} steps") == (step >= 2)
    with Client.connected(daemon.address) as client:
        assert client.ask("VERSION").success
