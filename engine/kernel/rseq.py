"""Restartable sequences.

A thread that is stopped inside a critical section must not go on in it after anything else ran on its behalf: the
kernel would have sent it to the abort handler. That holds for an image as for the thread itself after a visit, during
which the kernel may have looked at the instruction pointer and, finding it elsewhere, cleared rseq_cs
(kernel/rseq.c, rseq_ip_fixup).
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.kernel.memory import Memory
    from engine.kernel.ptrace import Tracee

_RSEQ_CS_OFFSET = 8
_CRITICAL_SECTION = struct.Struct("<IIQQQ")
_NO_RESTART_ON_SIGNAL = 2


def abort_address(tracee: Tracee, memory: Memory, ip: int) -> int | None:
    """Where a thread at `ip` has to go on: the abort handler of the critical section it is in, None if in none."""
    section = _section(tracee, memory)
    if section is None:
        return None
    flags, start, length, abort = section
    if 0 <= ip - start < length and not flags & _NO_RESTART_ON_SIGNAL:
        return abort
    return None


def _section(tracee: Tracee, memory: Memory) -> tuple[int, int, int, int] | None:
    try:
        address, _, _ = tracee.rseq()
        if not address:
            return None
        (pointer,) = struct.unpack("<Q", memory.read(address + _RSEQ_CS_OFFSET, 8))
        if not pointer:
            return None
        _, flags, start, length, abort = _CRITICAL_SECTION.unpack(memory.read(pointer, _CRITICAL_SECTION.size))
    except ProcessLookupError:
        raise
    except OSError as error:
        if error.errno == errno.EIO:
            return None
        raise
    return flags, start, length, abort
