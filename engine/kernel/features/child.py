"""Probes that alter the process they run in get a process of their own."""

from __future__ import annotations

import os
from contextlib import contextmanager

from engine.kernel.libc import NR, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUSER, CLONE_NEWNET = 0x80, 1 << 17, 1 << 25, 1 << 28, 1 << 30
_YES, _NO = 0, 255


def in_child(probe: Callable[[], bool], unshare: int = 0) -> bool:
    """Run a probe in a forked child that has unshared some namespaces (CLONE_NEW flags).

    The exit status carries the answer: 0 yes, 255 no, an errno for the OSError that the probe raised.
    """
    pid = os.fork()
    if pid == 0:
        status = _NO
        try:
            if unshare:
                syscall(NR["unshare"], unshare)
            status = _YES if probe() else _NO
        except OSError as exc:
            status = exc.errno or _NO
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (_YES, _NO):
        raise OSError(status, os.strerror(status)) if status > 0 else OSError(f"the probe was killed, signal {-status}")
    return status == _YES


@contextmanager
def tracee(
    prepare: Callable[[], object], options: int = 0, afterwards: Callable[[], object] | None = None
) -> Iterator[int]:
    """A child that ran `prepare` and then stopped itself, seized with these PTRACE_O_ options; yields its pid.

    When it is let go on it does `afterwards` and exits. It is killed at the end. Raises OSError when the kernel
    refuses the options.
    """
    import signal

    from engine.kernel import ptrace

    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            os.kill(os.getpid(), signal.SIGSTOP)
            if afterwards is not None:
                afterwards()
        finally:
            os._exit(0)
    try:
        os.waitpid(pid, os.WUNTRACED)
        ptrace.Tracee.seize(pid, options).wait()
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        while not ptrace.Tracee(pid).wait().dead:
            continue
