"""A dump to a page server over loopback against one into files, and the same encrypted."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import subjects
from bench.engine import OURS, environment
from bench.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = Path(__file__).parents[1] / "tests/transport/certificates"
_TLS = [f"--tls-cacert={_KEYS}/ca.pem", f"--tls-cert={_KEYS}/good.pem", f"--tls-key={_KEYS}/good.key", "--tls"]


def measure(mebibytes: int, runs: int) -> Iterator[Row]:
    """How fast memory leaves a tree that stands still."""
    times: dict[str, list[float]] = {"": [], "page server": [], "page server with TLS": []}
    with subjects.running(subjects.memory(mebibytes)) as pid:
        for _ in range(runs):
            for what, found in times.items():
                with tempfile.TemporaryDirectory(prefix="crucible-bench-") as place:
                    found.append(_dump(pid, place, what))
    plain = min(times.pop(""))
    for what, found in times.items():
        note = f"frozen {min(found):.0f} ms, into files {plain:.0f} ms"
        yield Row(f"dump of {mebibytes} MiB to a {what}", mebibytes * 1.048576e3 / min(found), "MB/s", note)


def _dump(pid: int, place: str, what: str) -> float:
    """For how many milliseconds the tree stood."""
    here, there = os.path.join(place, "here"), os.path.join(place, "there")
    os.mkdir(here)
    os.mkdir(there)
    options = []
    if what:
        tls = _TLS if "TLS" in what else []
        words = [*OURS.command, "page-server", "-D", there, "--address", "127.0.0.1", *tls]
        server = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = server.stdout.readline().split()[-1]
        options = ["--page-server", "--address", "127.0.0.1", "--port", port, *tls]
    OURS.dump(pid, here, "-R", *options)
    if what:
        with server:
            server.wait()
    return OURS.frozen(here)
