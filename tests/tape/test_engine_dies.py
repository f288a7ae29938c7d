"""A task outlives its engine: whatever the engine was doing in a visit when it was killed, the task comes home."""

from __future__ import annotations

import os
import platform
import signal
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import CrError
from engine.kernel import ptrace
from engine.kernel.libc import NR
from engine.kernel.memory import Memory
from engine.tape.tape import Tape
from tests.tape.tracing import code, is_blocked_in, seize, traces, visit_of, visiting
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tape.conftest import Guest

    Start = Callable[[str], Guest]

_STILL_LEAVING = 254

# The leader waits in read(2), one thread sleeps with a restart block, one computes something without a system call.
THREE_THREADS = f"""
import threading
stop = mmap.mmap(-1, 4096)
def compute():
    global seed, total
    seed, total = 1, 0
    while not stop[0]:
        for _ in range(1000):
            seed = (seed * 1103515245 + 12345) % 2147483648
            total += 1
class timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]
def sleep():
    global slept
    libc.syscall.argtypes = None
    slept = libc.syscall({NR["nanosleep"]}, ctypes.byref(timespec(1000000, 0)), None)
worker = threading.Thread(target=compute)
worker.start()
sleeper = threading.Thread(target=sleep, daemon=True)
sleeper.start()
tell(worker=worker.native_id, sleeper=sleeper.native_id)
stop[0] = 1
worker.join()
check = 1
for _ in range(total):
    check = (check * 1103515245 + 12345) % 2147483648
tell(right=check == seed, rounds=total, asleep=sleeper.is_alive())
"""


class _Killer:
    """Counts what the engine does to the task, and kills it before the n-th act."""

    def __init__(self, at: int) -> None:
        self.acts = 0
        self._at = at

    def watch(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def act(*args: Any) -> Any:
            self.acts += 1
            if self.acts == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        setattr(owner, name, act)


def _visit_and_die(pid: int, tid: int, at: int) -> int:
    """Visit a thread from a child process, which dies before its act number `at`. Gives the number of acts that it
    would have taken, 0 if it died. A thread may still be within the cave on its way home from the last death: then it
    is not entered, and this tries again."""
    results: list[int] = []

    def entered() -> bool:
        results.append(_try_to_visit_and_die(pid, tid, at))
        return results[-1] != _STILL_LEAVING

    wait_until(entered, f"thread {tid} has left the cave")
    return results[-1]


def _try_to_visit_and_die(pid: int, tid: int, at: int) -> int:
    child = os.fork()
    if not child:
        killer = _Killer(at)
        killer.watch(ptrace, "ptrace")
        killer.watch(Memory, "write")
        acts = 255
        try:
            _visit(pid, tid)
            acts = killer.acts
        except CrError as refusal:
            acts = _STILL_LEAVING if "is still leaving" in str(refusal) else acts
        finally:
            os._exit(acts)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0


def _visit(pid: int, tid: int) -> None:
    """All that visits do: tapes, a descriptor lent, home again."""
    with visiting(pid, tid) as visit:
        tape = Tape()
        tape.call("getpid")
        visit.run(tape)
        with visit.lend(0) as number:
            tape = Tape()
            tape.call("dup3", number, number, 0, may_fail=True)
            visit.run(tape)


SLEEPER = pytest.param(
    "sleeper",
    marks=pytest.mark.xfail(
        platform.machine() == "aarch64", reason="the way home is rt_sigreturn there, which ends a sleep with EINTR"
    ),
)


@pytest.mark.parametrize("thread", ["leader", "worker", SLEEPER])
def test_killed_before_every_act(start: Start, thread: str) -> None:
    subject = start(THREE_THREADS)
    tid = subject.facts.get(thread, subject.pid)
    wait_until(lambda: is_blocked_in(subject.facts["sleeper"], NR["nanosleep"]), "one thread sleeps")
    before = traces(subject.pid)
    acts = _visit_and_die(subject.pid, tid, 0)
    assert 30 < acts < 255
    for at in range(1, acts + 1):
        assert _visit_and_die(subject.pid, tid, at) == 0
        wait_until(lambda: traces(subject.pid) == before, f"the task is as before, after act {at} of {acts}")
    facts = subject.go_on()
    assert facts["right"]
    assert facts["asleep"]
    assert facts["rounds"] > 0


def test_next_engine_takes_the_same_cave(start: Start) -> None:
    """Caves are small: those that were left behind must not fill them up, and the next visit leaves no bytes."""
    subject = start("tell()")
    before, code_before = traces(subject.pid), code(subject.pid)
    acts = _visit_and_die(subject.pid, subject.pid, 0)
    for _ in range(10):
        _visit_and_die(subject.pid, subject.pid, acts // 2)
        wait_until(lambda: traces(subject.pid) == before, "the task is home")
    assert code(subject.pid) != code_before
    _visit(subject.pid, subject.pid)
    assert traces(subject.pid) == before
    assert code(subject.pid) == code_before


def test_stopped_on_the_way(start: Start) -> None:
    """A thread that has not come home yet, because it is in a group-stop, is not dumped."""
    subject = start("tell()")
    before = traces(subject.pid)
    subject.stop()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        with visit_of(seize(subject.pid), subject.pid):
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            # Keeps the socket open, so that the task waits in its cave for as long as the test wants.
            os.read(reader, 1)
            os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(CrError, match=f"thread {subject.pid} is still leaving an earlier dump.*SIGCONT"):
        _visit(subject.pid, subject.pid)
    os.close(reader)
    os.close(writer)
    os.kill(subject.pid, signal.SIGCONT)
    wait_until(lambda: traces(subject.pid) == before, "the task is home")
    _visit(subject.pid, subject.pid)
