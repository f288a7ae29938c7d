"""Registers of a thread: thread_info in its core image. x86_64; the other architecture is in cpu_state_aarch64.py."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel import ptrace
from engine.tape import arch as architectures

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any

MARCH_X86_64 = 1
_NATIVE = 1
_LEGACY = struct.Struct("<4H2Q2I128s256s96s")
_XSTATE_BV = 512
_XSAVE_ARRAYS = {
    2: ("ymmh_space", "I"),
    5: ("opmask_reg", "Q"),
    6: ("zmm_upper", "Q"),
    7: ("hi16_zmm", "Q"),
    9: ("pkru", "I"),
}
_LEGACY_BITS = 0b11
_USER_CS = 0x33
_NO_SYSCALL = (1 << 64) - 1


def march() -> int:
    """core_entry.march of this architecture."""
    return MARCH_X86_64


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """General and extended registers by ptrace, an interrupted system call undone."""
    arch = architectures.current()
    raw = arch.unpack(thread.tracee.regset(ptrace.NT_PRSTATUS))
    if raw["cs"] != _USER_CS:
        ctx.problems.add(f"thread {thread.tid} runs in 32-bit mode, which can't be dumped", thread.task.pid)
    core.mtype = MARCH_X86_64
    info = core.thread_info
    info.clear_tid_addr = 0
    for name, value in arch.for_image(raw).items():
        setattr(info.gpregs, name, value)
    info.gpregs.mode = _NATIVE
    _dump_extended(thread.tracee.regset(ptrace.NT_X86_XSTATE), info.fpregs)
    for _ in range(3):
        info.tls.add(
            entry_number=0, base_addr=0, limit=0, seg_32bit=False, contents_h=False, contents_l=False,
            limit_in_pages=False, usable=False,
        )  # fmt: skip
        info.tls[-1].read_exec_only = True
        info.tls[-1].seg_not_present = True


def _words(form: str, content: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(content) // struct.calcsize(form)}{form}", content)


def _dump_extended(area: bytes, fpregs: Message) -> None:
    """The xsave area in its standard (not compacted) form, of which the legacy part is FXSAVE's. Intel SDM 1, 13.4."""
    from engine.kernel.cpuid import xsave_components

    (
        fpregs.cwd, fpregs.swd, fpregs.twd, fpregs.fop, fpregs.rip, fpregs.rdp, fpregs.mxcsr, fpregs.mxcsr_mask,
        st_space, xmm_space, padding,
    ) = _LEGACY.unpack_from(area)  # fmt: skip
    fpregs.st_space.extend(_words("I", st_space))
    fpregs.xmm_space.extend(_words("I", xmm_space))
    fpregs.padding.extend(_words("I", padding))
    (fpregs.xsave.xstate_bv,) = struct.unpack_from("<Q", area, _XSTATE_BV)
    for bit, (offset, size) in xsave_components().items():
        if bit in _XSAVE_ARRAYS:
            field, form = _XSAVE_ARRAYS[bit]
            getattr(fpregs.xsave, field).extend(_words(form, area[offset : offset + size]))


# Restore


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The image must be of this architecture, its registers those of user mode, its vectors known to this CPU."""
    from engine.kernel.cpuid import xsave_components

    components = xsave_components()
    for thread in task.threads:
        core = thread.core
        if core.mtype != MARCH_X86_64 or not core.HasField("thread_info"):
            ctx.problems.add(f"core-{thread.tid}.img is of another architecture (mtype {core.mtype})", task.pid)
            continue
        if core.thread_info.gpregs.cs != _USER_CS:
            ctx.problems.add(f"core-{thread.tid}.img: thread runs in 32-bit mode", task.pid)
        xsave = core.thread_info.fpregs.xsave
        for bit, (field, form) in _XSAVE_ARRAYS.items():
            size = len(getattr(xsave, field)) * struct.calcsize(form)
            if xsave.xstate_bv >> bit & 1 and size != components.get(bit, (0, 0))[1]:
                ctx.problems.add(
                    f"core-{thread.tid}.img: {size} bytes of {field} do not fit this CPU", task.pid,
                    "restore it on a CPU with the same extensions",
                )  # fmt: skip


def final_registers(thread: RestoredThread) -> dict[str, int]:
    """The general registers with which the thread goes on. No system call is left to be restarted."""
    current: dict[str, int] = thread.stub.registers()
    gpregs = thread.core.thread_info.gpregs
    registers = {name: getattr(gpregs, name) for name in current}
    return dict(registers, orig_ax=_NO_SYSCALL)


def restore_extended(thread: RestoredThread) -> None:
    """The xsave area: what the stub has, with all that the image holds laid over it."""
    from engine.kernel.cpuid import xsave_components

    tracee = thread.stub.tracee
    fpregs = thread.core.thread_info.fpregs
    area = bytearray(tracee.regset(ptrace.NT_X86_XSTATE))
    _LEGACY.pack_into(
        area, 0, fpregs.cwd, fpregs.swd, fpregs.twd, fpregs.fop, fpregs.rip, fpregs.rdp, fpregs.mxcsr,
        fpregs.mxcsr_mask, _packed("I", fpregs.st_space, 128), _packed("I", fpregs.xmm_space, 256),
        bytes(area[_LEGACY.size - 96 : _LEGACY.size]),
    )  # fmt: skip
    components = xsave_components()
    present = fpregs.xsave.xstate_bv if fpregs.HasField("xsave") else _LEGACY_BITS
    kept = _LEGACY_BITS
    for bit, (field, form) in _XSAVE_ARRAYS.items():
        if present >> bit & 1 and bit in components:
            offset, size = components[bit]
            area[offset : offset + size] = _packed(form, getattr(fpregs.xsave, field), size)
            kept |= 1 << bit
    struct.pack_into("<Q", area, _XSTATE_BV, present & kept)
    tracee.set_regset(ptrace.NT_X86_XSTATE, bytes(area))


def _packed(form: str, values: Any, size: int) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)[:size].ljust(size, b"\0")
