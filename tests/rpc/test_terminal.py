"""A terminal whose master the client holds: a new one is handed over in the restore (orphan-pts-master)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.kernel import terminal
from tests.rpc.conftest import SWRK, await_end, is_running
from tests.waiting import wait_until
from zdtm.harness.rpc import started

if TYPE_CHECKING:
    from collections.abc import Iterator

_ECHO = """
import fcntl, os, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
while True: os.write(1, b"got " + os.read(0, 100))
"""


@pytest.fixture
def terminal_of_echo() -> Iterator[tuple[int, int]]:
    """(master, pid of a session leader on its slave that echoes lines)."""
    master, slave = os.openpty()
    process = subprocess.Popen([sys.executable, "-I", "-c", _ECHO], stdin=slave, stdout=slave, stderr=slave, cwd="/")
    os.close(slave)
    assert _says(master, b"before") == b"before\r\ngot before\r\n"
    yield master, process.pid
    process.kill()
    process.wait()


def _says(master: int, line: bytes) -> bytes:
    """What comes for a line: the terminal's echo and the task's."""
    os.write(master, line + b"\n")
    said = b""
    while said.count(b"\n") < 2:
        said += os.read(master, 100)
    return said


def test_a_new_master_is_handed_over(terminal_of_echo: tuple[int, int], images: str) -> None:
    master, pid = terminal_of_echo
    said = {"images_dir": images, "orphan_pts_master": True, "notify_scripts": True, "log_level": 4}
    with started(SWRK) as client:
        answer = client.ask("DUMP", {"pid": pid, **said})
        assert answer.success, answer
    await_end(pid)
    index = terminal.pty_index(master)
    os.close(master)
    new = -1

    def take(script: str, _pid: int, fd: int) -> bool:
        nonlocal new
        assert (script == "orphan-pts-master") == (fd >= 0)
        new = max(new, fd)
        return True

    with started(SWRK) as client:
        client.on_notify = take
        answer = client.ask("RESTORE", {**said, "rst_sibling": True})
        assert answer.success, answer
        assert [step for step, _ in client.steps].count("orphan-pts-master") == 1
    assert terminal.pty_index(new) == index
    assert _says(new, b"after") == b"after\r\ngot after\r\n"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(new)


def test_who_does_not_want_it_is_refused(terminal_of_echo: tuple[int, int], images: str) -> None:
    master, pid = terminal_of_echo
    with started(SWRK, stderr=subprocess.DEVNULL) as client:
        answer = client.ask("DUMP", {"pid": pid, "images_dir": images})
        assert not answer.success
        assert "has its master outside of the tree" in answer.cr_errmsg
    wait_until(lambda: is_running(pid), "the task runs on")
    os.close(master)


def test_a_client_that_does_not_take_it(terminal_of_echo: tuple[int, int], images: str) -> None:
    master, pid = terminal_of_echo
    said = {"images_dir": images, "orphan_pts_master": True}
    with started(SWRK) as client:
        assert client.ask("DUMP", {"pid": pid, **said}).success
    await_end(pid)
    os.close(master)
    with started(SWRK) as client:

        def refuse(_script: str, _pid: int, fd: int) -> bool:
            os.close(fd)
            return False

        client.on_notify = refuse
        answer = client.ask("RESTORE", said)
        assert not answer.success
        assert "the client does not take its master" in answer.cr_errmsg
    assert not os.path.exists(f"/proc/{pid}")
