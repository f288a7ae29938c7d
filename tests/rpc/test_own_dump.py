"""A process asks the service for its own dump."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.rpc.conftest import ENGINE, Daemon, await_end
from tests.waiting import wait_until
from zdtm.harness.rpc import Client

_ASKS_FOR_ITSELF = """
import os, sys
from zdtm.harness.rpc import Client
address, images, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
with Client.connected(address) as client:
    answer = client.ask("DUMP", {"images_dir": images, **options})
    more = client.sock.recv(100)
with open(images + "/seen", "a") as file:
    file.write(f"{os.getpid()} {answer.success} {answer.dump.restored} {answer.cr_errmsg} {more!r}\\n")
"""


def _asks_for_itself(daemon: Daemon, images: str, **options: Any) -> subprocess.Popen[bytes]:
    words = [ENGINE[0], "-c", _ASKS_FOR_ITSELF, daemon.address, images, repr(options)]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(words, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def test_a_process_that_asks_to_be_dumped_itself(daemon: Daemon, images: str) -> None:
    """It runs on when it has been restored, and is told so on the connection on which it asked."""
    process = _asks_for_itself(daemon, images)
    assert process.wait(60) == -signal.SIGKILL
    seen = Path(images, "seen")
    assert not seen.exists()
    with Client.connected(daemon.address) as client:
        assert client.ask("RESTORE", {"images_dir": images}).restore.pid == process.pid
    wait_until(seen.exists, "it goes on")
    wait_until(lambda: seen.read_text() == f"{process.pid} True True  b''\n", "it is told", seen.read_text)
    await_end(process.pid)


def test_a_process_that_asks_for_a_snapshot_of_itself(daemon: Daemon, images: str) -> None:
    process = _asks_for_itself(daemon, images, leave_running=True)
    assert process.wait(60) == 0
    assert Path(images, "seen").read_text() == f"{process.pid} True False  b''\n"


def test_a_process_that_asks_for_steps_of_its_own_dump(daemon: Daemon, images: str) -> None:
    """It could not answer while it stands still."""
    process = _asks_for_itself(daemon, images, notify_scripts=True)
    assert process.wait(60) == 0
    assert "can't be dumped and be told of each step of it" in Path(images, "seen").read_text()
