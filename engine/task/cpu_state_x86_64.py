"""x86_64 registers: thread_info in a core image. General registers, and the xsave area in its standard form."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel import ptrace
from engine.kernel.cpuid import xsave_components
from engine.tape.arch import x86_64 as arch

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any

MARCH = 1
INFO = "thread_info"
_NATIVE = 1
_LEGACY = struct.Struct("<4H2Q2I128s256s96s")
_LEGACY_BITS = 0b11
_XSTATE_BV = 512
_XSAVE_ARRAYS = {
    2: ("ymmh_space", "I"),
    5: ("opmask_reg", "Q"),
    6: ("zmm_upper", "Q"),
    7: ("hi16_zmm", "Q"),
    9: ("pkru", "I"),
}
"""State component: its field in the image, and of what the field is made. Intel SDM 1, 13.1."""
_IN_IMAGES = _LEGACY_BITS | sum(1 << bit for bit in _XSAVE_ARRAYS)
_PKRU_DEFAULT = 0x55555554
_MPX = 1 << 3 | 1 << 4
_TILES = 1 << 17 | 1 << 18
_USER_CS, _USER_SS = 0x33, 0x2B
_NO_SYSCALL = (1 << 64) - 1
_MAX_WORD = 0xFFFF


def load_ahead() -> None:
    xsave_components()


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    raw = arch.unpack(thread.tracee.regset(ptrace.NT_PRSTATUS))
    area = thread.tracee.regset(ptrace.NT_X86_XSTATE)
    for problem, remedy in _problems(thread, raw, area):
        ctx.problems.add(f"thread {thread.tid} {problem}", thread.task.pid, remedy)
    info = core.thread_info
    info.clear_tid_addr = 0
    for name, value in arch.for_image(raw).items():
        setattr(info.gpregs, name, value)
    info.gpregs.mode = _NATIVE
    _dump_extended(area, info.fpregs)
    for _ in range(3):
        info.tls.add(
            entry_number=0, base_addr=0, limit=0, seg_32bit=False, contents_h=False, contents_l=False,
            limit_in_pages=False, usable=False, read_exec_only=True, seg_not_present=True,
        )  # fmt: skip


def _problems(thread: Thread, registers: dict[str, int], area: bytes) -> list[tuple[str, str]]:
    """What images have no place for."""
    problems = []
    if registers["cs"] != _USER_CS:
        problems.append(("runs in 32-bit mode, which can't be dumped", "dump it when it is in 64-bit mode"))
    if thread.status.x86_thread_features:
        problems.append(
            ("has a shadow stack, which can't be dumped", "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
        )
    (in_use,) = struct.unpack_from("<Q", area, _XSTATE_BV)
    if in_use & _TILES:
        problems.append(("has data in AMX tiles, which images can't hold", "have it release them (TILERELEASE)"))
    elif unknown := in_use & ~(_IN_IMAGES | _MPX | _TILES):
        problems.append(
            (f"uses registers of xsave components {unknown:#x}, which images can't hold", "stop using them")
        )
    return problems


def _words(form: str, content: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(content) // struct.calcsize(form)}{form}", content)


def _dump_extended(area: bytes, fpregs: Message) -> None:
    """The xsave area in its standard (not compacted) form, of which the legacy part is FXSAVE's. Intel SDM 1, 13.4."""
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


def ip(core: Message) -> int:
    return int(core.thread_info.gpregs.ip)


def set_ip(core: Message, address: int) -> None:
    core.thread_info.gpregs.ip = address


# Restore


def check(thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """User mode, and vectors that fit this CPU. The rest the kernel itself refuses or cuts to what is allowed."""
    info = thread.core.thread_info
    name = f"core-{thread.tid}.img"
    if info.gpregs.cs != _USER_CS:
        ctx.problems.add(f"{name}: thread runs in 32-bit mode", task.pid, "only 64-bit tasks are restored")
    elif info.gpregs.ss not in (0, _USER_SS):
        problem = f"{name}: stack segment {info.gpregs.ss:#x} is not that of user mode"
        ctx.problems.add(problem, task.pid, "the image is damaged")
    fpregs = info.fpregs
    if max(fpregs.cwd, fpregs.swd, fpregs.twd, fpregs.fop) > _MAX_WORD:
        ctx.problems.add(f"{name}: x87 registers that have more than 16 bits", task.pid, "the image is damaged")
    components = xsave_components()
    xsave = fpregs.xsave
    for bit, (field, form) in _XSAVE_ARRAYS.items():
        size = len(getattr(xsave, field)) * struct.calcsize(form)
        present = xsave.xstate_bv >> bit & 1 and (bit in components or not _is_untouched(field, xsave))
        if present and size != components.get(bit, (0, 0))[1]:
            problem = f"{name}: {size} bytes of {field} do not fit this CPU"
            ctx.problems.add(problem, task.pid, "restore it on a CPU with the same extensions")


def _is_untouched(field: str, xsave: Message) -> bool:
    """Protection keys are part of every thread's state where a CPU has them, and never in their initial state: the
    kernel forbids all keys but the first (arch/x86/mm/pkeys.c). Until a program uses them, it can do without."""
    return field == "pkru" and list(xsave.pkru) in ([_PKRU_DEFAULT], [_PKRU_DEFAULT, 0])


def final_registers(thread: RestoredThread) -> dict[str, int]:
    gpregs = thread.core.thread_info.gpregs
    registers = {name: getattr(gpregs, name) for name in thread.stub.registers()}
    return dict(registers, orig_ax=_NO_SYSCALL)


def restore_extended(thread: RestoredThread) -> None:
    """The xsave area: what the stub has, with all that the image holds laid over it."""
    tracee = thread.stub.tracee
    area = bytearray(tracee.regset(ptrace.NT_X86_XSTATE))
    _lay_over(area, thread.core.thread_info.fpregs)
    tracee.set_regset(ptrace.NT_X86_XSTATE, bytes(area))


def _lay_over(area: bytearray, fpregs: Message) -> None:
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


def _packed(form: str, values: Any, size: int) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)[:size].ljust(size, b"\0")
