"""aarch64 registers: ti_aarch64 in a core image. General and FPSIMD registers, the thread pointer, pointer
authentication keys, and the scalable vectors where they hold more than FPSIMD shows.

The field for the vectors is ours: the field's images have none, and its engines bring such a thread back without. There
is no place for more. A thread that has another vector length than it would be given, live data in SME registers, memory
tags or a guarded control stack is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel import ptrace, sve
from engine.tape.arch import aarch64 as arch

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.kernel.ptrace import Tracee
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any

MARCH = 3
INFO = "ti_aarch64"

_NT_PACA_KEYS, _NT_PACG_KEYS, _NT_TAGGED_ADDR_CTRL = 0x407, 0x408, 0x409
_NT_PAC_ENABLED_KEYS, _NT_SSVE, _NT_ZA, _NT_GCS = 0x40A, 0x40B, 0x40C, 0x410
_WORD = struct.Struct("<Q")
_FPSIMD = struct.Struct("<64QII8x")
_ADDRESS_KEYS, _GENERIC_KEY = struct.Struct("<8Q"), struct.Struct("<2Q")
_ADDRESS_KEY_NAMES = tuple(f"ap{key}key_{half}" for key in ("ia", "ib", "da", "db") for half in ("lo", "hi"))
_PSTATE_MODE = 0x1F
_GENERAL = 31


def load_ahead() -> None:
    arch.vector_length()


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    tracee = thread.tracee
    for problem, remedy in _problems(tracee):
        ctx.problems.add(f"thread {thread.tid} {problem}", thread.task.pid, remedy)
    registers = arch.for_image(arch.unpack(tracee.regset(ptrace.NT_PRSTATUS)))
    info = core.ti_aarch64
    info.clear_tid_addr = 0
    info.gpregs.regs.extend(registers[f"x{number}"] for number in range(_GENERAL))
    info.gpregs.sp, info.gpregs.pc, info.gpregs.pstate = registers["sp"], registers["pc"], registers["pstate"]
    (info.tls,) = _WORD.unpack_from(tracee.regset(ptrace.NT_ARM_TLS))
    *vectors, info.fpsimd.fpsr, info.fpsimd.fpcr = _FPSIMD.unpack(tracee.regset(ptrace.NT_PRFPREG))
    info.fpsimd.vregs.extend(vectors)
    _dump_keys(tracee, info)
    if live := sve.live(tracee):
        info.sve = live


def _dump_keys(tracee: Tracee, info: Message) -> None:
    """Pointer authentication: return addresses on the stack are signed by these keys."""
    if address := sve.regset(tracee, _NT_PACA_KEYS):
        keys = info.pac_keys.pac_address_keys
        for name, value in zip(_ADDRESS_KEY_NAMES, _ADDRESS_KEYS.unpack(address), strict=True):
            setattr(keys, name, value)
        (keys.pac_enabled_key,) = _WORD.unpack_from(tracee.regset(_NT_PAC_ENABLED_KEYS))
    if generic := sve.regset(tracee, _NT_PACG_KEYS):
        keys = info.pac_keys.pac_generic_keys
        keys.apgakey_lo, keys.apgakey_hi = _GENERIC_KEY.unpack(generic)


def _problems(tracee: Tracee) -> list[tuple[str, str]]:
    """What images have no place for."""
    problems = []
    vectors = sve.regset(tracee)
    if vectors and sve.vector_length(vectors) != arch.vector_length():
        problems.append(("has a vector length of its own (PR_SVE_SET_VL)", "run the engine with the same one"))
    elif sve.is_live(vectors) and sve.vector_length(vectors) > arch.LONGEST_VECTOR:
        problems.append((f"has live vectors of {sve.vector_length(vectors)} bytes", "let it make a system call"))
    if sve.holds_vectors(sve.regset(tracee, _NT_SSVE)) or len(sve.regset(tracee, _NT_ZA)) > sve.HEADER.size:
        problems.append(("uses SME registers, which images can't hold", "have it leave streaming mode (SMSTOP)"))
    for note, what in ((_NT_TAGGED_ADDR_CTRL, "tagged addresses"), (_NT_GCS, "a guarded control stack")):
        if any(sve.regset(tracee, note)[:8]):
            problems.append((f"uses {what}, which images can't hold", "start it without"))
    return problems


def ip(core: Message) -> int:
    return int(core.ti_aarch64.gpregs.pc)


def set_ip(core: Message, address: int) -> None:
    core.ti_aarch64.gpregs.pc = address


# Restore


def check(thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """All registers, and a user mode of 64 bits."""
    info = thread.core.ti_aarch64
    name = f"core-{thread.tid}.img"
    if len(info.gpregs.regs) != _GENERAL or len(info.fpsimd.vregs) != 2 * sve.REGISTERS:
        problem = f"{name}: {len(info.gpregs.regs)} general and {len(info.fpsimd.vregs)} vector register words"
        ctx.problems.add(problem, task.pid, "the image is damaged")
    if info.gpregs.pstate & _PSTATE_MODE:
        problem = f"{name}: pstate {info.gpregs.pstate:#x} is not that of 64-bit user mode"
        ctx.problems.add(problem, task.pid, "no other tasks are restored")
    if info.HasField("sve") and not sve.is_sound(info.sve):
        problem = f"{name}: {len(info.sve)} bytes that are no vector registers"
        ctx.problems.add(problem, task.pid, "the image is damaged")
    elif info.HasField("sve") and sve.vector_length(info.sve) != arch.vector_length():
        problem = f"{name}: has vectors of {sve.vector_length(info.sve)} bytes, here they have {arch.vector_length()}"
        ctx.problems.add(problem, task.pid, "restore it where they are as long")
    if info.HasField("pac_keys") and not _has_pointer_authentication():
        problem = f"{name}: its pointers are signed by keys that this CPU or kernel does not have"
        ctx.problems.add(problem, task.pid, "restore it on a CPU with pointer authentication")


def _has_pointer_authentication() -> bool:
    """/proc/cpuinfo lists it as the feature paca."""
    with open("/proc/cpuinfo") as file:
        return any(line.startswith("Features") and "paca" in line.split() for line in file)


def final_registers(thread: RestoredThread) -> dict[str, int]:
    gpregs = thread.core.ti_aarch64.gpregs
    general = {f"x{number}": int(value) for number, value in enumerate(gpregs.regs)}
    return dict(general, sp=gpregs.sp, pc=gpregs.pc, pstate=gpregs.pstate)


def restore_extended(thread: RestoredThread) -> None:
    tracee = thread.stub.tracee
    info = thread.core.ti_aarch64
    tracee.set_regset(ptrace.NT_ARM_TLS, _WORD.pack(info.tls))
    tracee.set_regset(ptrace.NT_PRFPREG, _FPSIMD.pack(*info.fpsimd.vregs, info.fpsimd.fpsr, info.fpsimd.fpcr))
    if info.pac_keys.HasField("pac_address_keys"):
        keys = info.pac_keys.pac_address_keys
        content = _ADDRESS_KEYS.pack(*(getattr(keys, name) for name in _ADDRESS_KEY_NAMES))
        tracee.set_regset(_NT_PACA_KEYS, content)
        tracee.set_regset(_NT_PAC_ENABLED_KEYS, _WORD.pack(keys.pac_enabled_key))
    if info.pac_keys.HasField("pac_generic_keys"):
        generic = info.pac_keys.pac_generic_keys
        tracee.set_regset(_NT_PACG_KEYS, _GENERIC_KEY.pack(generic.apgakey_lo, generic.apgakey_hi))
    if info.HasField("sve"):
        tracee.set_regset(sve.NT_ARM_SVE, info.sve)
