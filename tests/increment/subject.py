"""The process that incremental dumps are tried on, and what is in their images."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from tests.hostile import ward
from tests.increment import churn


class Subject:
    """churn.py without restartable sequences: the kernel writes the number of the processor there between two dumps.

    words: another program, which answers as that does, and its arguments
    """

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", *(words or [churn.__file__])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
            env={**os.environ, "GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
        )  # fmt: skip
        assert self._answer() == "ready\n"

    def do(self, command: str) -> None:
        assert self.ask(command) == "done\n", command

    def ask(self, command: str) -> str:
        """What it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def pids(self) -> list[int]:
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def attempt(verb: str, subject: Subject, images: Path, *options: str) -> ward.Outcome:
    images.mkdir(exist_ok=True)
    words = [verb, "-t", str(subject.process.pid), "-D", str(images), *options]
    return ward.command(*words, "-v3", watched=False)


def run(verb: str, subject: Subject, images: Path, *options: str) -> None:
    outcome = attempt(verb, subject, images, *options)
    assert outcome.status == 0, outcome.log


def content(images: Path, pid: int) -> dict[int, bytes]:
    """address: page."""
    found = {}
    with ImageDir(str(images)) as directory, PageReader(directory, pid) as reader:
        for vaddr, nr_pages, fd, offset in reader.segments():
            for number in range(nr_pages):
                found[vaddr + number * 4096] = os.pread(fd, 4096, offset + number * 4096)
    return found
