"""The frame of a test program: set up a state, ready(), check the state, PASS or FAIL.

    def main() -> None:
        fds = os.pipe()
        os.write(fds[1], b"left in the pipe")
        ready()
        equal(os.read(fds[0], 64), b"left in the pipe", "contents of the pipe")

    if __name__ == "__main__":
        run(main)

stdout carries the protocol, one line each: READY (the state is there, look at me), then PASS or "FAIL: message".
It is a regular file opened with O_APPEND, so that children may report as well. By hand, stdout is whatever the
shell gives, and `kill -TERM` plays the harness:

    PYTHONPATH=. python zdtm/static/x.py

Nothing here leaves a trace in the state under test: no descriptor, no thread, no handler (transition programs have
one, for SIGTERM), and the signal mask is put back.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from threading import Thread
from types import FrameType
from typing import Any

STDOUT = 1
POLL_SECONDS = 0.002
WORKDIR_VARIABLE = "ZDTM_WORKDIR"


class Failure(AssertionError):
    """The state is not what it was."""


_told_to_finish = False
_thread_failures: list[str] = []


# The life of a program.


def run(main: Callable[[], None]) -> None:
    """Run main, print the verdict and exit: 0 after PASS, 1 after "FAIL: message" with a traceback below it."""
    try:
        main()
        if _thread_failures:
            raise Failure("; ".join(_thread_failures))
    except BaseException as problem:
        _report_failure("", problem)
        sys.exit(1)
    _say("PASS\n")
    sys.exit(0)


def ready() -> None:
    """Say READY and wait for SIGTERM. The checkpoint happens in here.

    SIGTERM is blocked before READY is said, so none gets lost, and is taken by rt_sigtimedwait, so no handler runs.
    A dump interrupts that call with EINTR; sigwaitinfo() of Python waits again.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _say("READY\n")
    signal.sigwaitinfo({signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def running() -> None:
    """Say READY and go on: the checkpoint may happen at any moment from now on, until go_on() says no."""
    signal.signal(signal.SIGTERM, _on_term)
    _say("READY\n")


def go_on() -> bool:
    """False when this process got SIGTERM (after running() in it, or in the parent before the fork)."""
    return not _told_to_finish


def _on_term(_signo: int, _frame: FrameType | None) -> None:
    global _told_to_finish
    _told_to_finish = True


# Checks.


def check(condition: object, message: str) -> None:
    """Fail with message unless condition is true."""
    if not condition:
        raise Failure(message)


def equal(got: object, expected: object, what: str) -> None:
    """Fail unless got == expected. what: the words for it ("size of the pipe")."""
    if got != expected:
        raise Failure(f"{what}: got {_brief(got)}, expected {_brief(expected)}")


def wait_until(predicate: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Poll predicate until it is true; fail after that many seconds. what: the condition in words."""
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds:g} s in vain: {what}")
        time.sleep(POLL_SECONDS)


def _brief(value: object, limit: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


# Children and threads.


def child(body: Callable[[], None], *, block_term: bool = False, fork: Callable[[], int] = os.fork) -> int:
    """Fork; the child runs body and exits with 0, or with 1 after saying "FAIL: child PID: message". Gives its pid.

    block_term  the child starts with SIGTERM blocked, so that its wait_term() cannot miss one that comes early
    fork        how to fork, see libc.py for other ways
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM} if block_term else set())
    pid = fork()
    if pid == 0:
        _run_child(body)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _run_child(body: Callable[[], None]) -> None:
    status = 1
    try:
        body()
        status = 0
    except BaseException as problem:
        _report_failure(f"child {os.getpid()}: ", problem)
    finally:
        os._exit(status)


def wait_term() -> None:
    """For children: wait for SIGTERM, which child(..., block_term=True) keeps blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigwaitinfo({signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reap(pid: int) -> int:
    """Wait for a child. Gives the raw wait status: 0 after exit(0), see os.waitstatus_to_exitcode."""
    return os.waitpid(pid, 0)[1]


def finish(pid: int) -> None:
    """Tell a child in wait_term() to go on, and fail unless it ends with 0."""
    os.kill(pid, signal.SIGTERM)
    equal(reap(pid), 0, f"wait status of child {pid}")


def spawn_thread(body: Callable[..., None], *args: Any) -> Thread:
    """Start a thread. SIGTERM is blocked in it, so the one for ready() finds the main thread.

    A failure in the thread fails the program. The program ends without waiting for it; join() it where that matters.
    """

    def guarded() -> None:
        try:
            body(*args)
        except BaseException as problem:
            _thread_failures.append(f"thread {body.__name__}: {problem}")
            traceback.print_exc()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    thread = Thread(target=guarded, daemon=True)
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


# The outside.


def workdir() -> str:
    """Absolute path of a directory of this program's own; it is also the current directory.

    The harness gives one to each item. By hand it is a new temporary directory, removed at exit.
    """
    given = os.environ.get(WORKDIR_VARIABLE)
    if given is None:
        given = _temporary_workdir()
        os.environ[WORKDIR_VARIABLE] = given
    return given


def _temporary_workdir() -> str:
    import atexit
    import shutil
    import tempfile

    path = tempfile.mkdtemp(prefix="zdtm-by-hand-")
    os.chdir(path)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _report_failure(who: str, problem: BaseException) -> None:
    message = str(problem) if isinstance(problem, Failure) else f"{type(problem).__name__}: {problem}"
    _say(f"FAIL: {who}{message}\n{''.join(traceback.format_exception(problem))}")


def _say(text: str) -> None:
    """One write, so that lines of several processes do not mix, and nothing stays in a buffer over a fork."""
    os.write(STDOUT, text.encode(errors="backslashreplace"))
