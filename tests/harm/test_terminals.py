"""What is queued in a terminal is read to be dumped. Kill the engine at any step, or have any step fail: the task finds
all of it."""

from __future__ import annotations

import os
import select
import signal
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import engine.cli
import engine.dump_tree
from engine.kernel import terminal
from tests.harm import stepper
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHARDS = 2
_LINES = [b"first\n", b"second\n"]
_BEGUN = b"third"
_OUTPUT = b"output"


class Subject:
    """A task that has a pseudo terminal, which it shares with us, and does nothing."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        modes = terminal.modes(self.slave)
        self.modes = modes._replace(lflag=modes.lflag & ~termios.ECHO)
        terminal.set_modes(self.slave, self.modes)
        self.fill()
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            for fd in set(map(int, os.listdir("/proc/self/fd"))) - {0, 1, 2, self.master, self.slave}:
                os.closerange(fd, fd + 1)
            for fd in range(3):
                os.dup2(self.slave, fd)
            for fd in (self.master, self.slave):
                os.set_inheritable(fd, True)
            os.execvp("sleep", ["sleep", "infinity"])
        comm = Path(f"/proc/{self.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "the task has only the terminal, and nothing of our memory")

    def fill(self) -> None:
        os.write(self.master, b"".join(_LINES) + _BEGUN)
        os.write(self.slave, _OUTPUT)

    def check(self, where: str) -> None:
        """All is there, in its order; then it is put there again. The reader may still be at work when the engine is
        dead: it has put everything back when the modes are as they were."""
        lines = sum(map(len, _LINES))
        wait_until(
            lambda: (terminal.readable(self.slave), terminal.readable(self.master)) == (lines, len(_OUTPUT))
            and terminal.modes(self.slave) == self.modes,
            f"{where}: all is back",
        )
        os.write(self.master, b" line\n")
        found = [os.read(self.slave, 64) for _ in _LINES] + [os.read(self.slave, 64)]
        assert found == [*_LINES, _BEGUN + b" line\n"], where
        assert os.read(self.master, 64) == _OUTPUT, where
        assert not terminal.events(self.slave, select.POLLIN), where
        self.fill()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def subject() -> Iterator[Subject]:
    running = Subject()
    yield running
    running.end()


def _dump(subject: Subject, images: Path) -> Callable[[], int]:
    words = ["dump", "-t", str(subject.pid), "-D", str(images), "-R", "-v4", "-o", "dump.log"]
    return lambda: engine.cli.main(["crucible", *words])


@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("victim", ["worker", ""], ids=["killed", "failing"])
def test_queues_stay(subject: Subject, tmp_path: Path, victim: str, shard: int) -> None:
    """In the second half of the steps, when all has been collected and is written down."""
    engine.dump_tree.load_ahead()
    assert _dump(subject, tmp_path)() == 0, (tmp_path / "dump.log").read_text()[-2000:]
    subject.check("before")
    whole = stepper.run(_dump(subject, tmp_path))
    assert whole.succeeded
    for step in range(whole.steps // 2 + shard, whole.steps + 1, _SHARDS):
        stepper.run(_dump(subject, tmp_path), step, victim)
        subject.check(f"step {step} of {whole.steps}")
