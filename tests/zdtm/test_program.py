"""The frame of test programs in Python: verdicts, waiting, children, and that it leaves no trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
HEAD = "import os, signal, threading\nfrom zdtm.lib.program import *\n"


class Started:
    """A program written to a file and started as the harness does."""

    def __init__(self, directory: Path, body: str) -> None:
        source = directory / "program.py"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        source.write_text(f"{HEAD}def main():\n{lines}run(main)\n")
        self.out = directory / "out"
        environment = {"PYTHONPATH": str(ROOT), "ZDTM_WORKDIR": str(directory)}
        with open(self.out, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, source], stdout=out, stderr=out, cwd=directory, env=environment
            )

    def wait_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or self._is_ready(), "the program is ready")
        assert self._is_ready(), self.out.read_text()

    def _is_ready(self) -> bool:
        return "READY\n" in self.out.read_text()

    def finish(self) -> tuple[int, str]:
        self.wait_ready()
        self.process.terminate()
        return self.process.wait(20), self.out.read_text()


Start = Callable[[str], Started]
"""body of main() -> the started program"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Started] = []

    def start(body: str) -> Started:
        started.append(Started(tmp_path, body))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_pass(start: Start) -> None:
    status, said = start("ready(); check(True, 'never'); equal(1, 1, 'one')").finish()
    assert (status, said) == (0, "READY\nPASS\n")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("check(False, 'it is not')", "FAIL: it is not"),
        ("equal(b'got', b'wanted', 'contents')", "FAIL: contents: got b'got', expected b'wanted'"),
        ("os.close(99)", "FAIL: OSError: [Errno 9] Bad file descriptor"),
        ("wait_until(lambda: False, 'the moon', seconds=0.01)", "FAIL: waited 0.01 s in vain: the moon"),
        ("exit(0)", "FAIL: SystemExit: 0"),
        ("finish(child(lambda: check(False, 'no'), block_term=True))", ": no"),
        ("equal(reap(child(lambda: os._exit(3))), 0, 'status')", "FAIL: status: got 768, expected 0"),
        ("spawn_thread(lambda: check(False, 'in a thread')).join()", "FAIL: thread <lambda>: in a thread"),
    ],
)
def test_fail(start: Start, statement: str, message: str) -> None:
    status, said = start(f"ready()\n{statement}").finish()
    assert status == 1
    assert message in said
    assert "PASS" not in said


def test_ready_leaves_no_trace(start: Start) -> None:
    body = (
        "fds, mask = os.listdir('/proc/self/fd'), signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "ready()\n"
        "equal(os.listdir('/proc/self/fd'), fds, 'descriptors')\n"
        "equal(signal.pthread_sigmask(signal.SIG_BLOCK, []), mask, 'mask')\n"
        "equal(signal.getsignal(signal.SIGTERM), signal.SIG_DFL, 'handler')\n"
        "equal(threading.active_count(), 1, 'threads')"
    )
    assert start(body).finish() == (0, "READY\nPASS\n")


def test_ready_survives_a_stop(start: Start) -> None:
    program = start("ready()")
    program.wait_ready()
    for _ in range(3):
        program.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.process.pid, os.WSTOPPED)
        program.process.send_signal(signal.SIGCONT)
    assert program.finish() == (0, "READY\nPASS\n")


def test_running(start: Start, tmp_path: Path) -> None:
    """It has been ready before it goes round, and goes round until it is told to finish."""
    program = start("running()\nwhile go_on(): open('round', 'w').close()\nos.unlink('round')")
    wait_until((tmp_path / "round").exists, "it goes round")
    assert program.finish() == (0, "READY\nPASS\n")
    assert not (tmp_path / "round").exists()


def test_a_thread_does_not_catch_the_term(start: Start) -> None:
    """The kernel may hand a process-wide signal to any thread that does not block it."""
    body = "event = threading.Event()\nspawn_thread(event.wait)\nready()\nevent.set()"
    assert start(body).finish() == (0, "READY\nPASS\n")


def test_a_child_is_told_to_finish(start: Start) -> None:
    body = "pid = child(lambda: (wait_term(), None)[1], block_term=True)\nready()\nfinish(pid)"
    assert start(body).finish() == (0, "READY\nPASS\n")


def test_a_workdir_by_hand_goes_away(tmp_path: Path) -> None:
    source = tmp_path / "by_hand.py"
    source.write_text(
        f"{HEAD}def main():\n    workdir()\n    open('f', 'w')\n    print(workdir(), os.getcwd())\nrun(main)\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, source], env=environment, capture_output=True, text=True, check=True)
    directory, current = (word for word in done.stdout.split() if word != "PASS")
    assert directory == current
    assert not Path(directory).exists()
