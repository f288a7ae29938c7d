"""An engine under measurement: ours, or another one that takes CRIU's command line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.images.directory import ImageDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FREEZING = b"Freezing the tree"
"""In the log line that comes right before the first act on another task."""


class Engine:
    """command: its first words. All times are milliseconds."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.command = command

    def dump(self, pid: int, images: str, *options: str) -> float:
        """The whole command. What an earlier dump left in the directory is removed before."""
        for entry in os.scandir(images):
            os.unlink(entry.path)
        return timed(lambda: self._run("dump", images, "-t", str(pid), *options))

    def pre_dump(self, pid: int, images: str, *options: str) -> float:
        """The whole command, into an empty directory."""
        return timed(lambda: self._run("pre-dump", images, "-t", str(pid), *options))

    def restore(self, images: str, *options: str) -> float:
        """The whole command."""
        return timed(lambda: self._run("restore", images, "-d", *options))

    @contextlib.contextmanager
    def serving(self, verb: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a server, and when it is left wait for its end, which is for others to bring about."""
        read_end, write_end = os.pipe()
        words = [*self.command, verb, *options, "--status-fd", str(write_end)]
        with subprocess.Popen(words, env=environment(), pass_fds=[write_end]) as process:
            os.close(write_end)
            os.read(read_end, 1)
            os.close(read_end)
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def _run(self, verb: str, images: str, *options: str) -> None:
        words = [*self.command, verb, "-D", images, "-o", f"{verb}.log", *options]
        if subprocess.run(words, env=environment(), check=False).returncode:
            log = os.path.join(images, f"{verb}.log")
            said = Path(log).read_text(errors="replace")[-2000:] if os.path.exists(log) else "nothing"
            raise RuntimeError(f"{' '.join(words)} failed and said:\n{said}")

    @staticmethod
    def frozen(images: str) -> float:
        """How long the tree of the last dump stood, as the engine itself says."""
        with ImageDir(images) as directory:
            return float(directory.read_one("STATS", "dump").dump.frozen_time) / 1e3

    def first_act(self, pid: int, images: str) -> float:
        """From the start of the command until it touches its first task."""
        words = [*self.command, "dump", "-D", images, "-t", str(pid), "-R", "-v3", "-o", "-"]
        start = time.perf_counter()
        with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while FREEZING not in (line := process.stdout.readline()):
                if not line:
                    raise RuntimeError(f"{' '.join(words)} did not come to freeze a tree")
            taken = (time.perf_counter() - start) * 1e3
            process.stdout.read()
        return taken


def command(words: list[str]) -> None:
    """Run something else. Raises CalledProcessError."""
    subprocess.run(words, env=environment(), check=True)


OURS = Engine("crucible", [sys.executable, "-m", "engine"])


def environment() -> dict[str, str]:
    """For an interpreter that keeps what it has compiled: an installed package is compiled, too."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3
