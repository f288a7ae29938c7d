"""Runs the engine under ptrace and does something to it at the n-th system call of its worker: kills it, or makes the
call fail.

The engine runs in a forked child of the test, so that a trial costs milliseconds. Steps are counted from the moment
at which the worker begins to touch other tasks: its first ptrace or clone3 call.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from engine.kernel import ptrace
from engine.kernel.libc import NR
from engine.tape import arch as architectures

if TYPE_CHECKING:
    from collections.abc import Callable

_BEGINS = (NR["ptrace"], NR["clone3"])
_EIO = 5
_NO_CALL = (1 << 64) - 1
_NAMES = "exit_group exit rt_sigreturn wait4 waitid clock_nanosleep munmap brk futex"
_NEVER_FAIL = [NR[name] for name in _NAMES.split()]
"""Calls that can't fail with EIO, or whose failure Python itself, rather than the engine, would not survive."""


class _Convention(NamedTuple):
    """Registers at the entry and exit of a system call."""

    number: str
    first_argument: str
    result: str


_CONVENTIONS = {"x86_64": _Convention("orig_ax", "di", "ax"), "aarch64": _Convention("x8", "x0", "x0")}
_NT_ARM_SYSTEM_CALL, _NO_ARM_CALL = 0x404, b"\xff" * 4
"""To change the number of a call: at its entry the kernel has read it from x8 already."""


class Outcome:
    """steps: how many were counted; status: raw wait status of the engine."""

    def __init__(self, steps: int, status: int) -> None:
        self.steps = steps
        self.status = status

    @property
    def succeeded(self) -> bool:
        return self.status == 0


def run(work: Callable[[], int], at: int = 0, victim: str | int = "", request: int | None = None) -> Outcome:
    """Run `work` in a child and interfere at step `at` of its worker (0: never).

    request  of ptrace(2), at whose first occurrence the counting begins
    victim  "worker" or "engine", the process that waits for it, or a pid: the one to be killed; "": the call fails
            with EIO
    """
    go_read, go_write = os.pipe()

    def wait_and_work() -> int:
        os.close(go_write)
        os.read(go_read, 1)
        return work()

    child = forked(wait_and_work)
    os.close(go_read)
    options = ptrace.O_TRACESYSGOOD | ptrace.O_EXITKILL | ptrace.O_TRACEFORK
    engine = ptrace.Tracee.seize(child, options)
    os.write(go_write, b"!")
    os.close(go_write)
    worker = _await_worker(engine)
    if isinstance(victim, str):
        victim = {"": 0, "worker": worker.tid, "engine": engine.tid}[victim]
    steps = _step(worker, at, victim, request)
    while not (status := engine.wait()).dead:
        engine.cont(status.signal if status.is_signal else 0)
    return Outcome(steps, status.raw)


def forked(work: Callable[[], int]) -> int:
    """The pid of a child that does some work; what that returns is its exit status."""
    child = os.fork()
    if not child:
        code = 70
        with contextlib.suppress(BaseException):
            code = work()
        os._exit(code)
    return child


def _await_worker(engine: ptrace.Tracee) -> ptrace.Tracee:
    """Let the engine run until it has forked, and stop the new process at its first system call."""
    while (status := engine.wait()).event != ptrace.EVENT_FORK:
        assert not status.dead, "the engine ended without a worker"
        engine.cont(status.signal if status.is_signal else 0)
    worker = ptrace.Tracee(engine.event_message())
    engine.cont()
    assert worker.wait().event == ptrace.EVENT_STOP
    worker.cont_to_syscall()
    return worker


def _step(worker: ptrace.Tracee, at: int, victim: int, request: int | None) -> int:
    """Stops come in pairs, entry and exit. Registers are only looked at where it matters: a stop costs 20 µs.

    What the worker forks is detached from at once. Returns the number of steps when the worker is dead.
    """
    steps, entry = 0, True
    while True:
        status = worker.wait()
        if status.dead:
            return steps
        if status.event == ptrace.EVENT_FORK:
            _let_go(worker.event_message())
        if not status.is_syscall:
            ptrace.ptrace(ptrace.SYSCALL, worker.tid, 0, status.signal if status.is_signal else 0)
            continue
        if entry:
            steps += bool(steps) or _begins(worker, request)
            if steps == at and at:
                if victim:
                    os.kill(victim, signal.SIGKILL)
                    _die_together(worker, victim)
                    return steps
                if _number(worker) not in _NEVER_FAIL:
                    _fail(worker)
                    continue
        entry = not entry
        worker.cont_to_syscall()


def _die_together(worker: ptrace.Tracee, victim: int) -> None:
    """The victim is dying. A worker that has not committed dies with its engine; one that has goes on to its end.

    What the worker forks is not attached any more: if the worker died before it told of that, nobody would let it go.
    """
    with contextlib.suppress(ProcessLookupError):
        worker.set_options(ptrace.O_TRACESYSGOOD | ptrace.O_EXITKILL)
        if victim != worker.tid:
            worker.cont()
    while not (status := worker.wait()).dead:
        with contextlib.suppress(ProcessLookupError):
            worker.cont(status.signal if status.is_signal else 0)


def _let_go(pid: int) -> None:
    """What the worker forks is attached by itself; its death must be its own matter."""
    forked = ptrace.Tracee(pid)
    with contextlib.suppress(ProcessLookupError):
        if not forked.wait().dead:
            forked.detach()


def _begins(worker: ptrace.Tracee, request: int | None) -> bool:
    """Whether steps are to be counted from the system call at whose entry it stands."""
    if request is None:
        return _number(worker) in _BEGINS
    return _number(worker) == NR["ptrace"] and _registers(worker)[_convention().first_argument] == request


def _number(tracee: ptrace.Tracee) -> int:
    """The system call at whose entry the engine stands."""
    return _registers(tracee)[_convention().number]


def _fail(tracee: ptrace.Tracee) -> None:
    """Skip the call and have it return -EIO."""
    if architectures.current().NAME == "aarch64":
        tracee.set_regset(_NT_ARM_SYSTEM_CALL, _NO_ARM_CALL)
    else:
        _set_register(tracee, _convention().number, _NO_CALL)
    tracee.cont_to_syscall()
    while not (status := tracee.wait()).is_syscall:
        if status.dead:
            return
        tracee.cont_to_syscall()
    _set_register(tracee, _convention().result, -_EIO & _NO_CALL)
    tracee.cont_to_syscall()


def _convention() -> _Convention:
    return _CONVENTIONS[architectures.current().NAME]


def _registers(tracee: ptrace.Tracee) -> dict[str, int]:
    return architectures.current().unpack(tracee.regset(ptrace.NT_PRSTATUS))


def _set_register(tracee: ptrace.Tracee, name: str, value: int) -> None:
    arch = architectures.current()
    tracee.set_regset(ptrace.NT_PRSTATUS, arch.pack({**_registers(tracee), name: value}))
