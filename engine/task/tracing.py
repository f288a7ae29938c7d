"""Becoming the tracer of a thread, or saying why that can't be."""

from __future__ import annotations

from engine.errors import CrError, Refused
from engine.kernel import ptrace
from engine.kernel.proc_stat import read_stat
from engine.kernel.proc_status import read_status

ZOMBIE = "Z"
_DYING = "X"
_OPTIONS = ptrace.O_TRACESYSGOOD | ptrace.O_SUSPEND_SECCOMP
_PF_KTHREAD = 0x200000


def seize(pid: int, tid: int) -> ptrace.Tracee | None:
    """A thread of a process, which is not stopped by that; None when it has exited. Raises CrError, Refused."""
    try:
        return _try(tid)
    except ProcessLookupError:
        return None
    except PermissionError as error:
        if _has_exited(pid, tid):
            return None
        raise Refused("dump", [_why_not(pid, tid)]) from error


def _try(tid: int) -> ptrace.Tracee:
    """Seccomp suspended where the kernel offers it; it refuses the option to engines that are filtered."""
    try:
        return ptrace.Tracee.seize(tid, _OPTIONS)
    except PermissionError:
        return ptrace.Tracee.seize(tid, ptrace.O_TRACESYSGOOD)


def _has_exited(pid: int, tid: int) -> bool:
    try:
        return read_stat(pid, tid).state in (ZOMBIE, _DYING)
    except (ProcessLookupError, FileNotFoundError):
        return True


def _why_not(pid: int, tid: int) -> str:
    if read_stat(pid, tid).flags & _PF_KTHREAD:
        raise CrError(f"task {pid}: is a thread of the kernel, which can't be dumped (name a process)")
    tracer = read_status(pid, tid).tracer_pid
    if tracer:
        return f"task {pid}: thread {tid} is traced by process {tracer} (detach the debugger first)"
    return f"task {pid}: thread {tid} can't be traced: permission denied (is CAP_SYS_PTRACE there?)"
