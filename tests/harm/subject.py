"""The tree that the harm tests dump and restore, and what must be true of it whatever happened to the engine."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from engine.kernel.libc import NR, syscall
from tests.waiting import reap, wait_until

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

_PROGRAM = r"""
import mmap, os, signal, socket, struct, sys, threading, time
counter = mmap.mmap(os.open("counter", os.O_RDWR), 4096)
left, right = socket.socketpair(); left.close(); right.close()
pipe = os.pipe()
os.write(pipe[1], b"data in a pipe")

linked = os.open("linked", os.O_RDWR | os.O_CREAT)
os.link("linked", "other-name"); os.unlink("linked")
memory = os.urandom(1 << 18)
def count(place):
    while True:
        number, = struct.unpack_from("Q", counter, place)
        struct.pack_into("Q", counter, place, number + 1)
        time.sleep(0.001)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
if os.fork() == 0:
    count(0)
threading.Thread(target=count, args=(8,), daemon=True).start()
os.mkdir("ready")
count(16)
"""
_PLACES = 3
_PR_SET_CHILD_SUBREAPER = 36


class _Task(NamedTuple):
    """What an engine could leave behind in a task."""

    descriptors: list[str]
    mappings: list[str]
    masks: list[str]
    children: list[str]


def children_of(pid: int) -> list[str]:
    """Zombies included, each with the first letter of its state."""
    found = []
    for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with open(f"/proc/{pid}/task/{tid}/children") as children:
            for child in children.read().split():
                with contextlib.suppress(OSError), open(f"/proc/{child}/stat") as stat:
                    found.append(f"{child} {'Z' if stat.read().rpartition(') ')[2].startswith('Z') else 'alive'}")
    return found


def look(pids: list[int]) -> dict[int, _Task]:
    """What is in these tasks now."""
    found = {}
    for pid in pids:
        numbers = sorted(os.listdir(f"/proc/{pid}/fd"), key=int)
        with open(f"/proc/{pid}/maps") as maps:
            mappings = [" ".join(line.split()[:2]) for line in maps]
        masks = []
        for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            with open(f"/proc/{pid}/task/{tid}/status") as status:
                masks += [line for line in status if line.startswith(("SigBlk", "TracerPid"))]
        descriptors = [f"{n} {os.readlink(f'/proc/{pid}/fd/{n}')}" for n in numbers]
        found[pid] = _Task(descriptors, mappings, masks, children_of(pid))
    return found


class Subject:
    """A running tree in a directory of its own: a parent with two threads, and a child, each of which counts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        syscall(NR["prctl"], _PR_SET_CHILD_SUBREAPER, 1)
        (place / "counter").write_bytes(bytes(4096))
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM],
            cwd=place, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until((place / "ready").exists, "the subject is ready")
        self.pid = self.process.pid
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            self.pids = [self.pid, *map(int, children.read().split())]
        with open(place / "counter", "r+b") as file:
            self._counter = mmap.mmap(file.fileno(), 4096)
        self.before = look(self.pids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def counts(self) -> tuple[int, ...]:
        return struct.unpack_from(f"{_PLACES}Q", self._counter)

    def check_unharmed(self) -> None:
        """All threads go on counting, and nothing is in the tasks that was not there before. The way home of a visit
        takes the task a moment after the engine's death."""
        self.check_counting()
        wait_until(lambda: look(self.pids) == self.before, "the tasks are as before", self._difference)

    def check_counting(self) -> None:
        """All threads go on counting."""
        start = self.counts()
        wait_until(
            lambda: all(a > b for a, b in zip(self.counts(), start, strict=True)),
            "all threads go on",
            lambda: f"counts were {start}, are {self.counts()}",
        )

    def _difference(self) -> str:
        """What is in the tasks that was not, and the other way round."""
        now = look(self.pids)
        lines = []
        for pid, before in self.before.items():
            for name, old, new in zip(_Task._fields, before, now[pid], strict=True):
                lines += [f"{pid} {name}: + {item}" for item in new if item not in old]
                lines += [f"{pid} {name}: - {item}" for item in old if item not in new]
        return "\n".join(lines)

    def remaps(self) -> list[str]:
        """Link remaps in the subject's directory."""
        return [name for name in os.listdir(self.place) if name.startswith("link_remap")]

    def remove_remaps(self) -> None:
        for name in self.remaps():
            os.unlink(self.place / name)

    def is_alone(self) -> bool:
        """Whether no process that is not of the tree has come to live here: whatever an engine leaves is this process's
        child at last."""
        here = children_of(os.getpid())
        return not {int(pid) for pid, state in map(str.split, here) if state == "alive"} - set(self.pids)

    def settles(self, where: str) -> bool:
        """Wait until the tree is wholly there, which is told by all its threads counting on, or wholly gone."""
        start = self.counts()
        there = False

        def settled() -> bool:
            nonlocal there
            there = all(a > b for a, b in zip(self.counts(), start, strict=True))
            return there or self.gone()

        wait_until(settled, f"{where}: all or nothing of the tree is there", lambda: f"{start} {self.counts()}")
        return there

    def gone(self) -> bool:
        """Whether nothing of the tree exists. This process adopts its orphans, and reaps them here."""
        reap()
        return not any(os.path.exists(f"/proc/{pid}") for pid in self.pids)

    def end(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(self.gone, "the tree has been killed")
