"""Death in the image: a stub that ends as its task did, and stays a zombie until its parent waits for it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from engine.kernel import ptrace
from engine.kernel.prctl import PR_SET_NAME
from engine.tape.tape import Tape
from engine.task.personality import comm_of

if TYPE_CHECKING:
    from engine.restore_context import RestoredTask

_RLIMIT_CORE = 4
_WCOREFLAG = 0x80


def die(task: RestoredTask, status: int) -> None:
    """End by exit or by a signal. status: raw wait status. A zombie still shows its name.

    The core-dump flag of the status depends on a core having been written; where it is set, the stub may write one of
    its own few pages, elsewhere it must not. Python ignores SIGPIPE and SIGXFSZ, which the stubs have inherited.
    """
    stub = task.stub
    fatal = status & 0x7F
    tape = Tape()
    if task.core is not None:
        tape.call("prctl", PR_SET_NAME, tape.buffer(comm_of(task.core.tc)))
    if not status & _WCOREFLAG:
        tape.call("setrlimit", _RLIMIT_CORE, tape.buffer(bytes(16)))
    if not fatal:
        tape.call("exit_group", status >> 8 & 0xFF)
        stub.start(tape)
    else:
        tape.call("rt_sigaction", fatal, tape.buffer(32), 0, 8, may_fail=True)
        stub.run(tape)
        _kill(task.pid, stub.tracee, fatal)
    while not stub.tracee.wait().dead:
        stub.tracee.cont(fatal)


def _kill(pid: int, tracee: ptrace.Tracee, fatal: int) -> None:
    if fatal == signal.SIGKILL:
        os.kill(pid, signal.SIGKILL)
        return
    tracee.set_sigmask(ptrace.ALL_SIGNALS & ~(1 << fatal - 1))
    tracee.cont(fatal)
