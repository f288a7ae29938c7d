"""Restartable sequences of a thread: rseq_entry in its core. What a critical section means is in kernel/rseq.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.kernel.rseq import abort_address
from engine.task import cpu_state

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
    abort = abort_address(thread.tracee, thread.task.memory, cpu_state.ip(core))
    if abort is not None:
        cpu_state.set_ip(core, abort)


def restore(tape: Tape, area: Message) -> None:
    """Register the area again. The size is what the task registered: 32 or, with newer C libraries, more."""
    entry = area.rseq_entry
    if entry.rseq_abi_pointer:
        size = max(entry.rseq_abi_size, _RSEQ_MIN_SIZE)
        tape.call("rseq", entry.rseq_abi_pointer, size, 0, entry.signature)
