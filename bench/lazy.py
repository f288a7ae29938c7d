"""A process that is restored lazily and reads all its memory at once, in no order: the worst there is for it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import subjects
from bench.engine import OURS, Engine
from bench.rows import Row
from zdtm.harness.init import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

_GOAL = 50.0
_PATIENCE = 120
_MEGABYTE = 1.048576
"""of a MiB"""
_PORT = re.compile(r"its pages are to be had at 127\.0\.0\.1 port (\d+)")
_LOG = ("-o", "lazy-pages.log")


def measure(mebibytes: int, runs: int) -> Iterator[Row]:
    """How fast it gets pages, from the first touch to the last, while the rest is brought beside that."""
    local, lazily, at_once = [], [], []
    with (
        subjects.running(subjects.random_reader(mebibytes)) as pid,
        tempfile.TemporaryDirectory(prefix="crucible-bench-") as images,
    ):
        for _ in range(runs):
            OURS.dump(pid, images)
            subjects.await_end(pid)
            with _ending_well(OURS.serving("lazy-pages", "-D", images, *_LOG)):
                lazily.append(OURS.restore(images, "--lazy-pages"))
                local.append(_read_all([], pid, os.readlink(f"/proc/{pid}/cwd")))
            OURS.dump(pid, images)
            subjects.await_end(pid)
            at_once.append(OURS.restore(images))
    note = f"restore {min(lazily):.0f} ms, with all pages {min(at_once):.0f} ms"
    yield _row(f"lazy {mebibytes} MiB, read at random", mebibytes, local, note)
    yield _row("from a dump over loopback", mebibytes, [_from_dump(mebibytes) for _ in range(runs)], "")


def _row(what: str, mebibytes: int, took: list[float], note: str) -> Row:
    return Row(what, mebibytes * _MEGABYTE / min(took), "MB/s", note, _GOAL, more_is_better=True)


def _from_dump(mebibytes: int) -> float:
    """The seconds of one that is restored while the dumped one stands."""
    with (
        tempfile.TemporaryDirectory(prefix="crucible-bench-") as images,
        subjects.running(subjects.random_reader(mebibytes)) as pid,
        _other_pids() as enter,
    ):
        there = Engine("there", [*enter, *OURS.command])
        where = ["--address", "127.0.0.1", "--port"]
        place = os.readlink(f"/proc/{pid}/cwd")
        log = ["-D", images, "-v3", "-o", "dump.log"]
        dump = OURS.serving("dump", "-t", str(pid), *log, "--lazy-pages", *where, "0")
        with _ending_well(dump):
            found = _PORT.search(Path(images, "dump.log").read_text())
            assert found
            daemon = there.serving("lazy-pages", "-D", images, *_LOG, "--page-server", *where, found[1])
            with _ending_well(daemon):
                there.restore(images, "--lazy-pages")
                return _read_all(enter, pid, place)


@contextlib.contextmanager
def _ending_well(server: contextlib.AbstractContextManager[subprocess.Popen[bytes]]) -> Iterator[None]:
    with server as process:
        yield
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")


@contextlib.contextmanager
def _other_pids() -> Iterator[list[str]]:
    """A pid namespace in which the pids of what stands here are free: the words that lead there. All in it ends."""
    words = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", "echo; exec sleep 100000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as outside:
        assert outside.stdout is not None
        outside.stdout.readline()
        try:
            yield ["nsenter", "-t", str(descendants(outside.pid)[1]), "-p", "-m"]
        finally:
            outside.kill()


def _read_all(enter: list[str], pid: int, place: str) -> float:
    """Have the process read, and wait until it has. place: its directory. Seconds."""
    file = os.path.join(place, "took")
    subprocess.run([*enter, "kill", "-USR1", str(pid)], check=True)
    deadline = time.monotonic() + _PATIENCE
    while not os.path.islink(file):
        if time.monotonic() > deadline:
            raise RuntimeError(f"a lazy reader is not done after {_PATIENCE} s")
        time.sleep(0.001)
    taken = float(os.readlink(file))
    os.unlink(file)
    return taken
