"""Connections of an image cache: as many as there may be, and no more trouble from the others."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from typing import TYPE_CHECKING

from engine.transport.frames import ImageLink
from tests.transport import remote
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_FULL = "Too many open files"


def _greet(port: int) -> None:
    link = ImageLink(socket.create_connection(("127.0.0.1", port)), "the cache")
    with contextlib.closing(link):
        link.greet()


def test_more_than_descriptors(tmp_path: Path) -> None:
    """It does not try again and again, and serves who comes later."""
    with remote.cache(tmp_path) as cache, contextlib.ExitStack() as clients:
        port, process = int(cache.port), cache.process
        most = max(int(name) for name in os.listdir(f"/proc/{process.pid}/fd")) + 3
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
        sockets = [clients.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(8)]
        wait_until(lambda: _FULL in cache.log, "it has run out of them")
        for sock in sockets:
            sock.close()
        _greet(port)
        assert cache.log.count(_FULL) < 40
