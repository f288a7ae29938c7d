"""System calls that the kernel restarts from a note of its own: nanosleep, futex waits with a time limit.

The note, a restart block, says how much time is left; restart_syscall(2) goes on with it. x86 shows a tracer that the
kernel is about to do so. On aarch64 it undoes the call before the tracer sees the stop and decides afterwards, unless
the tracer has moved the thread meanwhile, which a visit does (arch/arm64/kernel/signal.c, do_signal). The call would
start anew then, for all of its time. So such a thread is first let into its next system call, which is either this one
again or its restart, and stopped in there once more: a restart then shows as the number of restart_syscall.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.kernel import ptrace
from engine.tape import arch as architectures

if TYPE_CHECKING:
    from engine.kernel.ptrace import Status, Tracee

_INSTRUCTION = 4


def show_restart(tracee: Tracee) -> Status | None:
    """Have a thread's registers tell that its call is to be restarted from a restart block, if so.

    The thread is in the stop that interrupt() asked for, no group-stop, and will be again. It runs no instruction but
    that of the system call which it is in, or before.

    Returns the status of the last stop, None if the thread was not touched.
    """
    status = None
    # It may have been about to begin its call. Then it is in there after the first time.
    for _ in range(2):
        if status is not None and (status.dead or status.is_group_stop):
            break
        if not _may_hide_restart(tracee):
            break
        tracee.cont_to_syscall()
        first = tracee.wait()
        if first.dead:
            return first
        tracee.interrupt()
        tracee.cont(first.signal if first.is_signal else 0)
        status = tracee.wait_for_stop()
    return status


def _may_hide_restart(tracee: Tracee) -> bool:
    arch = architectures.current()
    if not arch.HIDES_RESTARTS:
        return False
    registers = arch.unpack(tracee.regset(ptrace.NT_PRSTATUS))
    if not arch.may_hide_restart(registers):
        return False
    memory = os.open(f"/proc/{tracee.tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        instruction = os.pread(memory, _INSTRUCTION, arch.instruction_pointer(registers))
        return instruction == bytes(arch.SYSCALL_INSTRUCTION)
    except OSError:
        return False  # nothing is mapped there
    finally:
        os.close(memory)
