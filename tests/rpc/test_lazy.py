"""A dump that keeps the tree until its pages have been fetched, as `runc checkpoint --lazy-pages` asks for it."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from engine.transport.protocol import STATUS, Command, PageMessage
from tests.rpc.conftest import SWRK, await_end, is_running
from zdtm.harness.rpc import started

_SECONDS = 20


@pytest.mark.parametrize("farewell", [Command.CLOSE, None])
def test_its_client_is_told_when_pages_are_to_be_had(sleeper: int, images: str, farewell: Command | None) -> None:
    """Whoever says that nothing more is needed has the tree end; whoever goes without that leaves it running."""
    fetchers: list[socket.socket] = []

    def on_notify(step: str, _pid: int, _fd: int) -> bool:
        if step == "status-ready":
            port = re.search(r"to be had at \S+ port (\d+)", Path(images, "dump.log").read_text())
            assert port
            fetchers.append(socket.create_connection(("127.0.0.1", int(port[1])), _SECONDS))
            if farewell:
                fetchers[0].sendall(PageMessage(farewell).encode())
            else:
                fetchers[0].shutdown(socket.SHUT_WR)
        return True

    said = {"pid": sleeper, "images_dir": images, "log_file": "dump.log", "log_level": 4, "notify_scripts": True}
    with started(SWRK) as client:
        client.on_notify = on_notify
        answer = client.ask("DUMP", {**said, "lazy_pages": True, "ps": {"address": "127.0.0.1", "port": 0}})
        assert [step for step, _ in client.steps] == ["pre-dump", "query-ext-files", "post-dump", "status-ready"]
    (fetcher,) = fetchers
    with fetcher:
        if farewell:
            assert answer.success, answer
            assert fetcher.recv(STATUS.size) == STATUS.pack(0)
            await_end(sleeper)
        else:
            assert not answer.success
            assert "has ended the connection" in answer.cr_errmsg
            assert is_running(sleeper)
