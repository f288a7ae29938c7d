"""Interrupts a tree once, as a dump will, so that what an interruption leaves in memory is there before the picture.

A dump stops tasks, and a stop ends some system calls with EINTR (rt_sigtimedwait, epoll_wait, semop: signal(7),
"Interruption of system calls and library functions by stop signals"). The program then runs for a moment, writes
errno, resolves a symbol, leaves frames of dead calls on its stack, and waits again. Once that has happened, a second
interruption writes the very same bytes, so any difference that is left is the engine's.

While a thread is stopped it can be asked for its rseq area, where the kernel itself writes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from pathlib import Path

from zdtm.harness.init import descendants
from zdtm.harness.oracle.tasks import face, thread_ids

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
RSEQ_CONFIGURATION = struct.Struct("=QIIII")
"""struct ptrace_rseq_configuration: address, size, signature, flags, padding. Linux 5.13, commit 90f093fa8ea4"""
WALL = 0x40000000
STOP_SECONDS = 5.0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long] * 4
_libc.ptrace.restype = ctypes.c_long


def interrupt_tree(root: int) -> dict[int, list[int]]:
    """Stop and let go every thread that is traced by nobody. Gives the addresses of rseq areas of each process."""
    areas: dict[int, list[int]] = {}
    for pid in descendants(root):
        for tid in thread_ids(pid):
            stopped = _state(pid, tid) in "RST" and _ptrace(PTRACE_SEIZE, tid) >= 0
            if stopped and (address := _interrupt(tid)):
                areas.setdefault(face(pid), []).append(address)
    return areas


def _interrupt(tid: int) -> int:
    """The address of the thread's rseq area, 0 if it has none."""
    _ptrace(PTRACE_INTERRUPT, tid)
    end = time.monotonic() + STOP_SECONDS
    while os.waitpid(tid, WALL | os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            raise TimeoutError(f"thread {tid} does not stop for ptrace")
        time.sleep(0.0005)
    buffer = ctypes.create_string_buffer(RSEQ_CONFIGURATION.size)
    got = _ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, RSEQ_CONFIGURATION.size, ctypes.addressof(buffer))
    _ptrace(PTRACE_DETACH, tid)
    return int(RSEQ_CONFIGURATION.unpack(buffer.raw)[0]) if got > 0 else 0


def _state(pid: int, tid: int) -> str:
    return Path(f"/proc/{pid}/task/{tid}/stat").read_text(errors="replace").rpartition(") ")[2][0]


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    result: int = _libc.ptrace(request, tid, address, data)
    return result
