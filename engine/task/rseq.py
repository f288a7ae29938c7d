"""Restartable sequences of a thread: rseq_entry in its core. What a critical section means is in kernel/rseq.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.kernel.rseq import abort_address

if TYPE_CHECKING:
    from engine.tape.tape import Tape
    from engine.task.tree import Thread

Message = Any

_RSEQ_MIN_SIZE = 32


def collect(thread: Thread, core: Message) -> None:
    """rseq_entry, and the instruction pointer of a thread inside a critical section."""
    address, size, signature = thread.tracee.rseq()
    entry = core.thread_core.rseq_entry
    entry.rseq_abi_pointer, entry.rseq_abi_size, entry.signature = address, size, signature
    gpregs = core.thread_info.gpregs
    abort = abort_address(thread.tracee, thread.task.memory, gpregs.ip)
    if abort is not None:
        gpregs.ip = abort


def restore(tape: Tape, area: Message) -> None:
    """Register the area again. The size is what the task registered: 32 or, with newer C libraries, more."""
    entry = area.rseq_entry
    if entry.rseq_abi_pointer:
        size = max(entry.rseq_abi_size, _RSEQ_MIN_SIZE)
        tape.call("rseq", entry.rseq_abi_pointer, size, 0, entry.signature)
