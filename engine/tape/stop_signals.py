"""Stop signals that reach a thread while it works for the engine.

SIGSTOP can't be blocked, so one that waits in a queue or comes during a visit is delivered as soon as the thread runs.
The engine takes it out of the thread's way and sends it again when the thread is home. What is not kept is who sent
it, which nobody but a tracer can ask.
"""

from __future__ import annotations

import os
import signal
import struct
from typing import TYPE_CHECKING

from engine.kernel.libc import NR, syscall
from engine.kernel.proc_status import read_status

if TYPE_CHECKING:
    from engine.kernel import ptrace

_SIGINFO = struct.Struct("<iii")
_SI_TKILL = -6


class StopSignals:
    """Those of one thread, during one visit. pid: its process."""

    def __init__(self, thread: ptrace.Tracee, pid: int) -> None:
        self._thread = thread
        self._pid = pid
        self._held: list[bytes] = []

    def hold(self, status: ptrace.Status) -> None:
        """Note what the thread stopped for; the caller continues it without the signal."""
        if status.is_signal:
            self._held.append(self._thread.siginfo())

    def send(self) -> None:
        """Give them back. A SIGCONT that is pending now came after all of them, and has undone them: each of the two
        kinds takes the other out of the queues when it arrives (kernel/signal.c, prepare_signal)."""
        held, self._held = self._held, []
        if not held or self._is_continued():
            return
        for number, _, code in map(_SIGINFO.unpack_from, held):
            if code == _SI_TKILL:
                syscall(NR["tgkill"], self._pid, self._thread.tid, number)
            else:
                os.kill(self._pid, number)

    def _is_continued(self) -> bool:
        status = read_status(self._pid, self._thread.tid)
        return bool((status.sig_pnd | status.shd_pnd) >> signal.SIGCONT - 1 & 1)
