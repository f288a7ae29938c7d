"""What the tests of swrk and the service share."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from bench import subjects
from tests.harm.subject import Subject
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENGINE = [sys.executable, "-m", "engine"]
SWRK = [*ENGINE, "swrk"]


class Daemon:
    """A running service. work: its work directory, which has its socket and its log."""

    def __init__(self, process: subprocess.Popen[bytes], work: Path) -> None:
        self.process = process
        self.work = work
        self.address = str(work / "criu_service.socket")

    @property
    def log(self) -> str:
        return (self.work / "service.log").read_text()

    def workers(self) -> list[int]:
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            return [int(pid) for pid in children.read().split()]


@contextmanager
def serving(work: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Daemon]:
    """Run a service until the end of the block, when it must end by SIGTERM and leave nothing."""
    read_end, write_end = os.pipe()
    words = [*ENGINE, "service", "-W", str(work), "-v4", "-o", "service.log", "--status-fd", str(write_end), *options]
    process = subprocess.Popen(words, pass_fds=[write_end], env={**os.environ, **(environment or {})})
    os.close(write_end)
    try:
        said = os.read(read_end, 1)
        os.close(read_end)
        assert said == b"\0", (work / "service.log").read_text()
        yield Daemon(process, work)
    finally:
        process.terminate()
        status = process.wait(30)
    assert status in (0, -9)


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    with Subject(tmp_path / "subject") as running:
        yield running


def dump_all(subject: Subject, images: Path) -> None:
    """Dump the tree, which is gone then."""
    with started(SWRK) as client:
        answer = client.ask("DUMP", {"pid": subject.pid, "images_dir": str(images), "link_remap": True})
        assert answer.success, answer
    subject.process.wait()
    wait_until(subject.gone, "the dumped tree is gone")


def answers(address: str) -> bool:
    """Whether a service is there."""
    with Client.connected(address) as client:
        return bool(client.ask("VERSION").success)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def images(tmp_path: Path) -> str:
    directory = tmp_path / "images"
    directory.mkdir()
    return str(directory)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The pid of a small process in a session of its own. Its pid stays that of the subject to the end."""
    with subjects.running(subjects.sleep()) as pid:
        yield pid


def await_end(pid: int) -> None:
    """Until nobody has the pid any more. A restored root becomes ours when its worker ends, and may be dead by then."""

    def is_free() -> bool:
        with suppress(ChildProcessError):
            while os.waitpid(-pid, os.WNOHANG)[0]:
                continue
        return not os.path.exists(f"/proc/{pid}")

    wait_until(is_free, f"pid {pid} is free")


def is_running(pid: int) -> bool:
    """Whether a task runs that nobody traces."""
    try:
        with open(f"/proc/{pid}/status") as status:
            lines = status.read().splitlines()
    except FileNotFoundError:
        return False
    return "TracerPid:\t0" in lines and not any(line.startswith(("State:\tZ", "State:\tT")) for line in lines)
