"""A process that is moved from one machine to another, in two ways. What is run is said before, as one would type it.

Both ways leave no instant in which two of it run, and one in which none does: the process itself measures that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from demo import subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.machines import Machine

PATIENCE_SECONDS = 60
Command = subprocess.Popen[bytes]
_ENGINE = [sys.executable, "-m", "engine"]
_PORT = "27000"


class Notes(NamedTuple):
    """What the process says of itself. pid: on its machine; downtime: the longest time between two ticks, in seconds"""

    pid: int
    ticks: int
    wrong: int
    downtime: float


class Journey:
    """A process, and what is done to get it from `here` to `there`.

    place  a directory for logs, and for images, if there are any
    say    is told each command, as if that were the current directory
    """

    def __init__(self, here: Machine, there: Machine, place: Path, say: Callable[[str], object] = str) -> None:
        self.here = here
        self.there = there
        self.place = place
        self._say = say
        self._notes = place / "notes"

    # The process

    def start(self, mebibytes: int) -> None:
        """Start it here and wait until it ticks."""
        self._notes.write_bytes(bytes(4096))
        self.here.start(sys.executable, "-I", "-S", subject.__file__, str(self._notes), str(mebibytes))
        self.wait_until(lambda: self.notes.ticks, "the process ticks")

    @property
    def notes(self) -> Notes:
        pid, ticks, wrong, nanoseconds = subject.NOTES.unpack_from(self._notes.read_bytes())
        return Notes(pid, ticks, wrong, nanoseconds / 1e9)

    def forget_downtime(self) -> None:
        with open(self._notes, "r+b") as file:
            os.pwrite(file.fileno(), bytes(8), subject.NOTES.size - 8)

    def is_on(self, machine: Machine) -> bool:
        return self.notes.pid in machine.pids()

    def await_ticks(self, number: int) -> Notes:
        """Wait until it has gone on for so many ticks, and return what it says then."""
        aim = self.notes.ticks + number
        self.wait_until(lambda: self.notes.ticks >= aim, "the process goes on")
        return self.notes

    def end(self) -> None:
        """Of the process, wherever it is."""
        for machine in self.here, self.there:
            if pid := machine.pids().get(self.notes.pid):
                os.kill(pid, signal.SIGKILL)
                self.wait_until(lambda: not self.is_on(machine), "the process is dead")  # noqa: B023

    def wait_until(self, true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE_SECONDS} s: {what}")
            time.sleep(0.001)

    # The ways. Each returns the command that gives the process away, and the one that ends when it is all there

    def by_proxy_and_cache(self, *options: str) -> tuple[Command, Command]:
        """No image touches a disk. The restore begins first, and waits for the dump. options: of all commands"""
        there = "--address", self.there.address
        self._serve(self.there, "image-cache", *there, *options)
        self._serve(self.here, "image-proxy", *there, *options)
        restore = self._start(self.there, "restore", "--remote", "-d", *options)
        return self._start(self.here, "dump", "-t", str(self.notes.pid), "--remote", *options), restore

    def by_page_server(self, *options: str) -> tuple[Command, Command]:
        """The process goes on there before its memory has come, and fetches what it touches."""
        images = self.place / "images"
        images.mkdir()
        where = "-D", str(images), *options
        pages = "--address", self.here.address, "--port", _PORT
        dump = self._serve(self.here, "dump", "-t", str(self.notes.pid), "--lazy-pages", *pages, *where)
        daemon = self._serve(self.there, "lazy-pages", "--page-server", *pages, *where)
        restore = self._start(self.there, "restore", "--lazy-pages", "-d", *where[:2])
        if restore.wait(PATIENCE_SECONDS):
            raise RuntimeError(self.log(self.there, "restore"))
        return dump, daemon

    def log(self, machine: Machine, verb: str) -> str:
        """What a verb has logged, when it was run on a machine."""
        return (self.place / machine.name / f"{verb}.log").read_text()

    def _start(self, machine: Machine, verb: str, *options: str, status_fd: int = -1) -> Command:
        """Start a verb of the engine on a machine. Its work directory has the machine's name."""
        work = self.place / machine.name
        work.mkdir(exist_ok=True)
        words = [verb, *options, "-W", str(work), "-v4", "-o", f"{verb}.log"]
        self._say(f"{machine.name}# crucible {' '.join(words)} &".replace(f"{self.place}/", ""))
        if status_fd < 0:
            return machine.start(*_ENGINE, *words)
        return machine.start(*_ENGINE, *words, "--status-fd", str(status_fd), pass_fds=[status_fd])

    def _serve(self, machine: Machine, verb: str, *options: str) -> Command:
        """Start a verb that serves another machine, and wait until it can be reached."""
        read_end, write_end = os.pipe()
        command = self._start(machine, verb, *options, status_fd=write_end)
        os.close(write_end)
        with open(read_end, "rb") as ready:
            if ready.read(1) != b"\0":
                raise RuntimeError(self.log(machine, verb))
        return command
