"""--shell-job: a job of a shell, whose session and terminal are outside of the tree, goes on in those of the engine."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from engine.kernel import terminal
from engine.kernel.proc_stat import read_stat
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_JOB = """
import os, sys, termios
current = os.open("/dev/tty", os.O_RDWR)
modes = termios.tcgetattr(0)
modes[3] &= ~(termios.ICANON | termios.ECHO)
termios.tcsetattr(0, termios.TCSANOW, modes)
os.write(1, b"ready")
while (line := os.read(0, 64)) != b"end":
    os.write(current, b"<" + line + b">")
os.write(1, os.ttyname(0).encode())
"""


class Shell:
    """The leader of a session that a new pseudo terminal controls. It runs one command after the other in the
    foreground, each a process group of its own."""

    def __init__(self, directory: Path) -> None:
        self.master, slave = os.openpty()
        self.name = os.ttyname(slave)
        self.output = directory / "engine.out"
        self._commands, ours = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(ours)
            self._lead(slave)
        os.close(slave)
        os.close(self._commands)
        self._ours = os.fdopen(ours, "w")

    def _lead(self, slave: int) -> None:
        """Never returns. Commands come as lines of the pipe."""
        os.setsid()
        os.close(os.open(self.name, os.O_RDWR))
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        for line in os.fdopen(self._commands):
            pid = os.fork()
            if not pid:
                os.setpgid(0, 0)
                os.tcsetpgrp(slave, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                for fd in range(3):
                    os.dup2(slave, fd)
                os.closerange(3, 1000)
                os.execv("/bin/sh", ["sh", "-c", f"exec {line.strip()}"])
            os.waitpid(pid, os.WUNTRACED)
            os.tcsetpgrp(slave, os.getpgrp())
        os._exit(0)

    def run(self, *words: str) -> None:
        print(subprocess.list2cmdline(words), file=self._ours, flush=True)

    def read(self, size: int) -> bytes:
        """So many bytes of what came to the terminal."""
        data = b""
        while len(data) < size and select.select([self.master], [], [], 20)[0]:
            data += os.read(self.master, size - len(data))
        return data

    def children(self) -> list[int]:
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def end(self) -> None:
        for pid in [*_session(self.pid), self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._ours.close()
        os.close(self.master)


def _session(sid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, ProcessLookupError):
            if name.isdecimal() and os.getsid(int(name)) == sid:
                found.append(int(name))
    return found


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[tuple[Shell, Shell]]:
    """Two, each with a terminal of its own."""
    both = Shell(tmp_path), Shell(tmp_path)
    yield both
    for shell in both:
        shell.end()


def test_job_goes_on_in_another_shell(shells: tuple[Shell, Shell], tmp_path: Path) -> None:
    first, second = shells
    script, images = tmp_path / "job.py", tmp_path / "images"
    script.write_text(_JOB)
    images.mkdir()
    first.run(sys.executable, str(script))
    assert first.read(5) == b"ready"
    (job,) = first.children()
    os.write(first.master, b"one")
    assert first.read(5) == b"<one>"
    engine = [sys.executable, "-m", "engine"]
    words = ["-D", str(images), "-v4", "-j"]
    subprocess.run([*engine, "dump", "-t", str(job), *words, "-o", "dump.log"], check=True)
    second.run(*engine, "restore", *words, "-o", "restore.log")
    log = images / "restore.log"
    wait_until(lambda: log.exists() and "Tasks resumed" in log.read_text(), "it is restored", log.read_text)
    assert not terminal.modes(second.master).lflag & 0o12, "neither echo nor lines"
    stat = read_stat(job)
    assert (stat.session, stat.pgrp) == (second.pid, job)
    assert stat.tpgid == job, "it is in the foreground"
    os.write(second.master, b"two")
    assert second.read(5) == b"<two>"
    os.write(second.master, b"end")
    assert second.read(len(second.name)) == second.name.encode()
