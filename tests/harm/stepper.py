"""Runs the engine under ptrace and does something to it at its n-th system call: kills it, or makes the call fail.

The engine runs in a forked child of the test, so that a trial costs milliseconds. Steps are counted from the moment
at which the engine begins to touch other tasks: its first ptrace or clone3 call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from typing import TYPE_CHECKING

from engine.kernel import ptrace
from engine.kernel.libc import NR
from engine.tape import arch as architectures

if TYPE_CHECKING:
    from collections.abc import Callable

_BEGINS = (NR["ptrace"], NR["clone3"])
_EIO = 5
_NO_CALL = (1 << 64) - 1
_NEVER_FAIL = (NR["exit_group"], NR["exit"], NR["rt_sigreturn"], NR["wait4"], NR["munmap"], NR["brk"], NR["futex"])
"""Calls that can't fail with EIO, or whose failure Python itself, rather than the engine, would not survive."""


class Outcome:
    """steps: how many were counted; status: raw wait status of the engine."""

    def __init__(self, steps: int, status: int) -> None:
        self.steps = steps
        self.status = status

    @property
    def succeeded(self) -> bool:
        return self.status == 0


def run(work: Callable[[], int], at: int, kill: bool) -> Outcome:
    """Run `work` in a child and interfere at step `at` (0: never). kill: SIGKILL, otherwise the call fails with EIO."""
    go_read, go_write = os.pipe()
    child = os.fork()
    if not child:
        os.close(go_write)
        os.read(go_read, 1)
        code = 70
        with contextlib.suppress(BaseException):
            code = work()
        os._exit(code)
    os.close(go_read)
    tracee = ptrace.Tracee.seize(child, ptrace.O_TRACESYSGOOD | ptrace.O_EXITKILL)
    os.write(go_write, b"!")
    os.close(go_write)
    tracee.interrupt()
    return _step(tracee, at, kill)


def _step(tracee: ptrace.Tracee, at: int, kill: bool) -> Outcome:
    """Stops come in pairs, entry and exit. Registers are only looked at where it matters: a stop costs 20 µs."""
    steps, entry = 0, True
    while True:
        status = tracee.wait()
        if status.dead:
            return Outcome(steps, status.raw)
        if not status.is_syscall:
            ptrace.ptrace(ptrace.SYSCALL, tracee.tid, 0, status.signal if status.is_signal else 0)
            continue
        if entry:
            steps += bool(steps) or _number(tracee) in _BEGINS
            if steps == at and at:
                if kill:
                    os.kill(tracee.tid, signal.SIGKILL)
                    continue
                if _number(tracee) not in _NEVER_FAIL:
                    _fail(tracee)
                    continue
        entry = not entry
        tracee.cont_to_syscall()


def _number(tracee: ptrace.Tracee) -> int:
    """The system call at whose entry the engine stands."""
    return int(architectures.current().unpack(tracee.regset(ptrace.NT_PRSTATUS))["orig_ax"])


def _fail(tracee: ptrace.Tracee) -> None:
    """Skip the call and have it return -EIO."""
    arch = architectures.current()
    registers = arch.unpack(tracee.regset(ptrace.NT_PRSTATUS))
    tracee.set_regset(ptrace.NT_PRSTATUS, arch.pack(dict(registers, orig_ax=_NO_CALL)))
    tracee.cont_to_syscall()
    while not (status := tracee.wait()).is_syscall:
        if status.dead:
            return
        tracee.cont_to_syscall()
    registers = arch.unpack(tracee.regset(ptrace.NT_PRSTATUS))
    tracee.set_regset(ptrace.NT_PRSTATUS, arch.pack(dict(registers, ax=-_EIO & _NO_CALL)))
    tracee.cont_to_syscall()
