"""Probes for tasks: ptrace, pids, timers, security."""

from __future__ import annotations

import errno
import struct

from engine.kernel.features.child import in_child, tracee
from engine.kernel.libc import MACHINE, NR, address, syscall
from engine.kernel.prctl import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_TIMER_CREATE_RESTORE_IDS

_SECCOMP_MODE_FILTER = 2
_TIMER_RESTORE_IDS_GET = 2
_ALLOW = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW
_CLONE_ARGS = struct.Struct("11Q")
_POKEUSER, _U_DEBUGREG = 6, 848  # offsetof(struct user, u_debugreg) on x86_64
_DR7_FIRST_ON_WRITE = 1 | 0b01 << 16  # DR0 is on for this task, one byte, writes


def seccomp_suspend() -> bool:
    """PTRACE_O_SUSPEND_SECCOMP (13c4a90119d28c, Linux 4.3)."""
    from engine.kernel.ptrace import O_SUSPEND_SECCOMP

    with tracee(lambda: None, O_SUSPEND_SECCOMP):
        return True


def seccomp_filters() -> bool:
    """PTRACE_SECCOMP_GET_FILTER reads filters back (f8e529ed941ba2, Linux 4.4)."""
    from engine.kernel.ptrace import O_SUSPEND_SECCOMP, Tracee

    with tracee(_allow_everything, O_SUSPEND_SECCOMP) as pid:
        return Tracee(pid).seccomp_filter(0) == _ALLOW


def _allow_everything() -> None:
    import ctypes

    here = address(bytearray(_ALLOW))
    syscall(NR["prctl"], PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    syscall(NR["prctl"], PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, struct.pack("HxxxxxxQ", 1, ctypes.addressof(here)))


def get_rseq_conf() -> bool:
    """PTRACE_GET_RSEQ_CONFIGURATION (90f093fa8ea48e, Linux 5.13)."""
    from engine.kernel.ptrace import Tracee

    with tracee(lambda: None) as pid:
        Tracee(pid).rseq()
        return True


def breakpoints() -> bool:
    """A hardware watchpoint, set through PTRACE_POKEUSER, stops the task that writes to it (x86 only)."""
    from engine.kernel.ptrace import SIGTRAP, Tracee, ptrace

    if MACHINE != "x86_64":
        return False
    import ctypes

    watched = bytearray(8)
    here = address(watched)

    def write() -> None:
        watched[0] = 1

    with tracee(lambda: None, afterwards=write) as pid:
        ptrace(_POKEUSER, pid, _U_DEBUGREG, ctypes.addressof(here))
        ptrace(_POKEUSER, pid, _U_DEBUGREG + 7 * 8, _DR7_FIRST_ON_WRITE)
        traced = Tracee(pid)
        traced.cont()
        status = traced.wait()
        return not status.dead and status.signal == SIGTRAP


def loginuid() -> bool:
    """/proc/self/loginuid takes a value again once it is set (needs CAP_AUDIT_CONTROL, and no lock on it)."""
    return in_child(_loginuid_is_writable)


def _loginuid_is_writable() -> bool:
    with open("/proc/self/loginuid", "r+", encoding="ascii") as file:
        value = file.read()
        file.seek(0)
        file.write(value)
    return True


def clone3_set_tid() -> bool:
    """clone3(2) with set_tid: pid 1 is taken, so a kernel that has it answers EEXIST (Linux 5.5)."""
    import ctypes

    tid = address(bytearray(struct.pack("i", 1)))
    args = _CLONE_ARGS.pack(0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(tid), 1, 0)
    try:
        syscall(NR["clone3"], args, len(args))
    except OSError as exc:
        if exc.errno == errno.EEXIST:
            return True
        raise
    return False


def timer_cr_ids() -> bool:
    """prctl(PR_TIMER_CREATE_RESTORE_IDS): timer_create(2) with an id of one's choice (ec2d0c04624b3c, Linux 6.15)."""
    syscall(NR["prctl"], PR_TIMER_CREATE_RESTORE_IDS, _TIMER_RESTORE_IDS_GET, 0, 0, 0)
    return True


def apparmor_stacking() -> bool:
    """AppArmor profiles can be stacked (Linux 4.12)."""
    with open("/sys/kernel/security/apparmor/features/domain/stack", encoding="ascii") as file:
        return file.read().strip() == "yes"
