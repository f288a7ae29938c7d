"""A process that does what a test tells it, and is dumped in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.waiting import wait_until

if TYPE_CHECKING:
    from typing import Self

PUPPET = r"""
import ctypes, fcntl, mmap, os, signal, socket, struct, sys, threading, time
private = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE)
private[:] = b"x" * len(private)
shared = mmap.mmap(-1, 16384); shared[0] = 1
pipe = os.pipe(); os.write(pipe[1], b"queued")
file = os.open("file", os.O_RDWR | os.O_CREAT)
pair = socket.socketpair()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMAX})
os.mkdir("ready")
while True:
    signal.sigwait({signal.SIGRTMAX})
    with open("command") as text: exec(text.read())
    os.rename("command", "done")
"""


def crit(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    words = (sys.executable, "-m", "engine", "crit", *words)
    return subprocess.run(words, capture_output=True, text=True, check=False)


class Puppet:
    """Runs in an empty directory. program: makes the directory `ready` there when it is."""

    def __init__(self, place: Path, program: str = PUPPET) -> None:
        self.place = place
        with open(place / "output", "w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program],
                cwd=place, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.pid = self._process.pid
        self._await("ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _await(self, name: str) -> None:
        wait_until(lambda: (self.place / name).exists() or self._process.poll() is not None, f"{name} is there")
        assert self._process.poll() is None, (self.place / "output").read_text()

    def do(self, text: str) -> None:
        """Have it execute some Python."""
        (self.place / "command").write_text(text)
        os.kill(self.pid, signal.SIGRTMAX)
        self._await("done")
        os.unlink(self.place / "done")

    def dump(self, images: Path, *options: str) -> str:
        """Dump it into a new directory. Returns its name."""
        images.mkdir()
        words = ["dump", "-t", str(self.pid), "-D", str(images), "-o", "dump.log", *options]
        run = subprocess.run([sys.executable, "-m", "engine", *words], check=False)
        assert run.returncode == 0, (images / "dump.log").read_text()
        return str(images)

    def end(self) -> None:
        """Kill it and all of its session, its children that is."""
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if os.getsid(int(name)) == self.pid:
                        os.kill(int(name), 9)
                except ProcessLookupError:
                    continue
        self._process.wait()
