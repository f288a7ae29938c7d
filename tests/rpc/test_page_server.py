"""PAGE_SERVER and PAGE_SERVER_CHLD."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.increment.subject import content
from tests.rpc.conftest import SWRK, Daemon, await_end, is_running
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, started


def _dump(sleeper: int, images: Path, port: int) -> None:
    """A dump by RPC to a page server of ours."""
    images.mkdir()
    with started(SWRK) as client:
        said = {"pid": sleeper, "images_dir": str(images), "ps": {"address": "127.0.0.1", "port": port}}
        answer = client.ask("DUMP", said)
        assert answer.success, answer


def test_a_page_server_that_is_a_child(sleeper: int, images: str, tmp_path: Path) -> None:
    """It is told how it ended."""
    with started(SWRK) as client:
        said = {"images_dir": images, "ps": {"address": "127.0.0.1"}, "log_level": 4}
        answer = client.ask("PAGE_SERVER_CHLD", said, keep_open=True)
        assert answer.success, answer
        server, port = answer.ps.pid, answer.ps.port
        assert Path(f"/proc/{server}/stat").read_text().split()[3] == str(client.process.pid)
        _dump(sleeper, tmp_path / "here", port)
        answer = client.ask("WAIT_PID", pid=server)
        assert (answer.success, answer.status) == (True, 0)
    await_end(sleeper)
    assert content(Path(images), sleeper)


def test_a_page_server_of_a_service(sleeper: int, images: str, tmp_path: Path, daemon: Daemon) -> None:
    """It goes on when the one who asked for it has gone."""
    with Client.connected(daemon.address) as client:
        answer = client.ask("PAGE_SERVER", {"images_dir": images, "ps": {"address": "127.0.0.1"}})
        assert answer.success, answer
    wait_until(lambda: len(daemon.workers()) == 1, "the worker has ended")
    _dump(sleeper, tmp_path / "here", answer.ps.port)
    wait_until(lambda: not is_running(answer.ps.pid), "the page server has ended")
    await_end(sleeper)
    assert content(Path(images), sleeper)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n" * 99])
def test_a_client_that_is_none(images: str, said: bytes) -> None:
    with started(SWRK) as client:
        answer = client.ask("PAGE_SERVER_CHLD", {"images_dir": images, "ps": {"address": "::1"}}, keep_open=True)
        with socket.create_connection(("::1", answer.ps.port)) as connection:
            connection.sendall(said)
        assert client.ask("WAIT_PID", pid=answer.ps.pid).status == 1 << 8
    assert os.listdir(images) == ["criu.log"]
    assert "Error (engine/transport/" in Path(images, "criu.log").read_text()
