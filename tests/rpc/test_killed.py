"""The client, the service and swrk are killed at any moment: a dump leaves the tree as it was or has taken it whole, a
restore leaves nothing or all of it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.harm.subject import Subject
from tests.rpc.conftest import SWRK, Daemon, answers, dump_all, serving
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, request, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TRIALS = 8
_DUMP_STEPS = ("pre-dump", "query-ext-files", "post-dump")
_RESTORE_STEPS = ("pre-restore", "post-restore", "pre-resume")


class Victim:
    """An engine to be killed: swrk, or a service. Each trial gets a new one."""

    def __init__(self, kind: str, work: Path) -> None:
        self.kind = kind
        self.work = work

    @contextlib.contextmanager
    def client(self) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
        if self.kind == "swrk":
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with spawn(SWRK, its) as process, Client(ours) as client:
                yield client, process
        else:
            with serving(self.work) as daemon, Client.connected(daemon.address) as client:
                yield client, daemon.process


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _kill_at(step: str, process: subprocess.Popen[bytes]) -> Callable[[str, int, int], bool]:
    def on_notify(script: str, _pid: int, _fd: int) -> bool:
        if script == step:
            _kill(process)
        return True

    return on_notify


def _has_ended(client: Client, kind: str, said: dict[str, object]) -> bool:
    """Whether the connection ends without an answer."""
    try:
        client.ask(kind, said)
    except (EOFError, ConnectionError):
        return True
    return False


@pytest.mark.parametrize("kind", ["swrk", "service"])
@pytest.mark.parametrize("step", _DUMP_STEPS)
def test_an_engine_killed_at_a_step_of_a_dump(subject: Subject, tmp_path: Path, kind: str, step: str) -> None:
    with Victim(kind, tmp_path).client() as (client, process):
        client.on_notify = _kill_at(step, process)
        said = {"pid": subject.pid, "images_dir": str(tmp_path), "link_remap": True, "notify_scripts": True}
        assert _has_ended(client, "DUMP", said)
    subject.check_unharmed()


@pytest.mark.parametrize("kind", ["swrk", "service"])
@pytest.mark.parametrize("step", _RESTORE_STEPS)
def test_an_engine_killed_at_a_step_of_a_restore(subject: Subject, tmp_path: Path, kind: str, step: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    dump_all(subject, images)
    with Victim(kind, tmp_path).client() as (client, process):
        client.on_notify = _kill_at(step, process)
        assert _has_ended(client, "RESTORE", {"images_dir": str(images), "notify_scripts": True})
    wait_until(subject.gone, "nothing of the tree is there")


def test_a_service_killed_at_any_moment(subject: Subject, tmp_path: Path) -> None:
    """Dumps that leave the tree running, so that it runs on whatever the moment was."""
    images = tmp_path / "images"
    images.mkdir()
    random.seed(7)
    longest = 0.05
    for _ in range(_TRIALS):
        with Victim("service", tmp_path).client() as (client, process):
            start = time.monotonic()
            said = {"pid": subject.pid, "images_dir": str(images), "leave_running": True, "link_remap": True}
            client.send(request("DUMP", said))
            client.sock.settimeout(random.uniform(0, longest))
            with contextlib.suppress(TimeoutError):
                assert client.receive()[0].success
                longest = max(longest, time.monotonic() - start)
            _kill(process)
        subject.check_unharmed()
        for name in subject.remaps():
            os.unlink(subject.place / name)


def test_a_client_killed_at_any_moment(subject: Subject, tmp_path: Path) -> None:
    """What it has asked for is done all the same: either all of the tree is there afterwards, or nothing."""
    images, keep = tmp_path / "images", tmp_path / "keep"
    images.mkdir()
    dump_all(subject, images)
    shutil.copytree(subject.place, keep)
    random.seed(8)
    with serving(tmp_path) as daemon:
        for trial in range(_TRIALS):
            shutil.copytree(keep, subject.place, dirs_exist_ok=True)
            said = {"images_dir": str(images), "notify_scripts": trial % 2 == 1}
            _ask_and_die(daemon, "RESTORE", said, random.uniform(0, 0.1))
            _until_idle(daemon)
            if subject.settles(f"trial {trial}"):
                assert trial % 2 == 0, "it was to be told of the steps, and can't have answered"
                subject.end()
                wait_until(subject.gone, "the restored tree has been killed")


def _ask_and_die(daemon: Daemon, kind: str, options: dict[str, object], patience: float) -> None:
    """As a client that is killed while it waits for an answer, or right after that."""
    pid = os.fork()
    if not pid:
        with Client.connected(daemon.address) as client, contextlib.suppress(TimeoutError):
            client.send(request(kind, options))
            client.sock.settimeout(patience)
            client.receive()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def _until_idle(daemon: Daemon) -> None:
    """Until all workers but the one that stands by have ended. Connections are accepted in their order: once a later
    one is served, the client that was killed has, or had, its worker."""
    assert answers(daemon.address)
    wait_until(lambda: len(daemon.workers()) == 1, "the worker has ended")
