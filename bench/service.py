"""A service under measurement: ours, warm, with one client."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.engine import OURS
from engine.kernel.libc import NR
from zdtm.harness.rpc import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_PATIENCE = 10


class Service:
    """address: of its socket. All times are milliseconds, from before connect(2) to the answer."""

    def __init__(self, pid: int, address: str) -> None:
        self.pid = pid
        self.address = address

    def ask(self, kind: str, options: Mapping[str, Any] | None = None) -> float:
        """One request on a connection of its own. Raises RuntimeError when it fails."""
        start = time.perf_counter()
        with Client.connected(self.address) as client:
            answer = client.ask(kind, options)
            taken = (time.perf_counter() - start) * 1e3
        if not answer.success:
            raise RuntimeError(f"the service can't {kind.lower()}: {answer.cr_errmsg}")
        return taken

    def settle(self) -> None:
        """Wait until a worker stands by: what it does for that isn't what is measured."""
        self.ask("VERSION")
        deadline = time.monotonic() + _PATIENCE
        while not self._stands_by():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no worker of the service stands by after {_PATIENCE} s")
            time.sleep(0.001)

    def _stands_by(self) -> bool:
        """Whether its only worker waits for a connection."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
                [worker] = children.read().split()
            with open(f"/proc/{worker}/syscall") as file:
                return file.read().split()[0] == str(NR["recvmsg"])
        except (ValueError, FileNotFoundError, ProcessLookupError):
            return False


@contextmanager
def running() -> Iterator[Service]:
    """Start a service and end it."""
    with (
        tempfile.TemporaryDirectory(prefix="crucible-bench-") as place,
        OURS.serving("service", "-W", place, "-o", "log") as process,
    ):
        try:
            yield Service(process.pid, os.path.join(place, "criu_service.socket"))
        finally:
            process.terminate()
