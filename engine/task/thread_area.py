"""What a thread has told the kernel about its memory (robust futexes, its tid's address, alternate stack, rseq), its
name, and the signal for the death of its parent."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any

from engine.images.text import set_text
from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_GET_PDEATHSIG, PR_GET_TID_ADDRESS, PR_SET_NAME, PR_SET_PDEATHSIG
from engine.kernel.procfs import read_comm
from engine.tape.tape import Tape
from engine.task import cpu_state, rseq
from engine.task.personality import comm_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any

_SS_ONSTACK, _SS_DISABLE = 1, 2
_ROBUST_LIST_SIZE = 24


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """The outside view."""
    head, length = ctypes.c_uint64(), ctypes.c_uint64()
    syscall(NR["get_robust_list"], thread.tid, ctypes.byref(head), ctypes.byref(length))
    area = core.thread_core
    area.futex_rla, area.futex_rla_len = head.value, length.value
    rseq.collect(thread, core)
    if thread.tid != thread.task.pid:
        set_text(area, "comm", read_comm(thread.task.pid, thread.tid))


def ask_thread(tape: Tape, thread: Thread, core: Message) -> Callable[[], None]:
    """What has no file in /proc."""
    stack, death, tid = tape.buffer(24), tape.buffer(4), tape.buffer(8)
    tape.call("sigaltstack", 0, stack)
    tape.call("prctl", PR_GET_PDEATHSIG, death)
    tape.call("prctl", PR_GET_TID_ADDRESS, tid)

    def answer() -> None:
        sas = core.thread_core.sas
        sas.ss_sp, sas.ss_flags, sas.ss_size = struct.unpack("<QI4xQ", stack.content)
        (signal,) = death.unpack("<i")
        if signal:
            core.thread_core.pdeath_sig = signal
        (cpu_state.info(core).clear_tid_addr,) = tid.unpack("<Q")

    return answer


def restore_thread(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """sigaltstack(2) refuses to move a stack that is in use, which the kernel tells by the stack pointer; the stub's is
    elsewhere, so SS_ONSTACK is neither needed nor allowed."""
    area = thread.core.thread_core
    tape.call("set_tid_address", cpu_state.info(thread.core).clear_tid_addr)
    if area.futex_rla_len == _ROBUST_LIST_SIZE:
        tape.call("set_robust_list", area.futex_rla, area.futex_rla_len)
    rseq.restore(tape, area)
    if area.HasField("sas"):
        flags = area.sas.ss_flags & ~_SS_ONSTACK
        if area.sas.ss_size and not flags & _SS_DISABLE:
            tape.call("sigaltstack", tape.buffer(struct.pack("<QI4xQ", area.sas.ss_sp, flags, area.sas.ss_size)), 0)
    if area.HasField("comm"):
        tape.call("prctl", PR_SET_NAME, tape.buffer(comm_of(area)))


def restore_death_signal(tape: Tape, thread: RestoredThread) -> None:
    """After the credentials: changing those clears it."""
    tape.call("prctl", PR_SET_PDEATHSIG, thread.core.thread_core.pdeath_sig)
