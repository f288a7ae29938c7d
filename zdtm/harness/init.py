"""What pid 1 of a sandbox does with processes: starts them, reaps whatever dies, waits for conditions.

Restored trees become its children too: the engine that made them has exited by then, and their exit status tells
whether the program passed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.005
ALL_SIGNALS = set(signal.valid_signals())


class Init:
    """The children of pid 1."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        self.statuses: dict[int, int] = {}
        """pid -> raw wait status, of every child that died since it was last asked for"""

    def spawn(self, command: list[str], environment: dict[str, str], output: Path) -> int:
        """Start a session leader with default signals, stdin from /dev/null, stdout and stderr appended to output."""
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.fspath(output), append, 0o666),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        default = ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP}
        return os.posix_spawn(
            command[0], command, environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=default
        )

    def wait_for(self, condition: Callable[[], object], seconds: float) -> bool:
        """Reap and poll until condition() holds. False when it did not within that time."""
        end = time.monotonic() + seconds
        while True:
            self._reap()
            if condition():
                return True
            if time.monotonic() > end:
                return False
            signal.sigtimedwait({signal.SIGCHLD}, POLL_SECONDS)

    def wait_exit(self, pid: int, seconds: float) -> int | None:
        """Raw wait status of a child, None when it still runs after that time."""
        if not self.wait_for(lambda: pid in self.statuses, seconds):
            return None
        return self.statuses.pop(pid)

    def has_died(self, pid: int) -> bool:
        self._reap()
        return pid in self.statuses

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.statuses[pid] = status


def others() -> list[int]:
    """Every process of the sandbox but pid 1, zombies included."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")


def descendants(root: int) -> list[int]:
    """A process and all below it, parents before children."""
    tree = [root]
    for pid in tree:
        for task in Path(f"/proc/{pid}/task").iterdir():
            tree.extend(int(child) for child in (task / "children").read_text().split())
    return tree


def died_how(status: int) -> str:
    """ "exit status 1", "killed by SIGSEGV" """
    if os.WIFSIGNALED(status):
        return f"killed by {signal_name(os.WTERMSIG(status))}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
