"""What pid 1 of a sandbox does with processes: starts them, reaps whatever dies, waits for conditions.

Restored trees become its children too: the engine that made them has exited by then, and their exit status tells
whether the program passed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.005


class Init:
    """The children of pid 1."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        self.statuses: dict[int, int] = {}
        """pid -> raw wait status, of every child that died since it was last asked for"""

    def spawn(
        self,
        command: list[str],
        environment: dict[str, str],
        directory: Path,
        output: Path,
        descriptors: dict[int, int] | None = None,
    ) -> int:
        """Start a session leader with default signals, stdin from /dev/null, stdout and stderr appended to output.
        descriptors: more that it gets, number there -> ours.

        Not by posix_spawn: glibc's leaves its two internal signals ignored in the child, which nobody's shell does.
        """
        pid = os.fork()
        if pid == 0:
            try:
                _become(command, environment, directory, output, descriptors or {})
            except OSError as problem:
                os.write(2, f"cannot start {command[0]}: {problem}\n".encode())
            finally:
                os._exit(127)
        return pid

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


def _become(
    command: list[str], environment: dict[str, str], directory: Path, output: Path, descriptors: dict[int, int]
) -> None:
    os.setsid()
    os.chdir(directory)
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    wanted = {0: null, 1: out, 2: out} | descriptors
    # First beyond all numbers that are wanted, so that none is in the way of another.
    above = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(wanted) + 1) for number, fd in wanted.items()}
    for number, fd in above.items():
        os.dup2(fd, number)
    for signo in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signo, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(command[0], command, environment)


def others() -> list[int]:
    """Every process of the sandbox but pid 1, zombies included."""
    return [pid for pid in _numbers("/proc") if pid != 1]


def descendants(root: int) -> list[int]:
    """A process and all below it, parents before children. Tasks that end meanwhile may be missing."""
    tree = [root]
    for pid in tree:
        for tid in _numbers(f"/proc/{pid}/task"):
            try:
                tree.extend(map(int, Path(f"/proc/{pid}/task/{tid}/children").read_text().split()))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return tree


def doings() -> str:
    """What the tasks of the sandbox are doing, for a report about something that hangs."""
    lines = []
    for entry in sorted(Path("/proc").glob("[0-9]*/task/[0-9]*")):
        try:
            comm, state = (entry / "comm").read_text().strip(), (entry / "stat").read_text().rpartition(") ")[2][0]
            lines.append(f"  {entry.name} ({comm}) {state} in {(entry / 'wchan').read_text()}")
        except OSError:
            continue
    return "\n".join(["tasks of the sandbox:", *lines])


def _numbers(directory: str) -> list[int]:
    """The tasks that a directory of /proc names; none if its process has gone (ESRCH: while the path was walked)."""
    try:
        return sorted(int(name) for name in os.listdir(directory) if name.isdigit())
    except (FileNotFoundError, ProcessLookupError):
        return []


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
