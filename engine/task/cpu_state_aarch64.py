"""aarch64 registers: ti_aarch64 in a core image. General and FPSIMD registers, the thread pointer, pointer
authentication keys.

Images have no place for more. A thread that has live data in SVE or SME registers, another vector length than it would
be given, memory tags or a guarded control stack is refused. After any system call SVE registers hold nothing beyond
their FPSIMD part (Documentation/arch/arm64/sve.rst, "System call behaviour"), so threads that wait are never refused
for them.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from engine.kernel import ptrace
from engine.kernel.libc import NR, syscall
from engine.tape.arch import aarch64 as arch

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.kernel.ptrace import Tracee
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any

MARCH = 3
INFO = "ti_aarch64"

_NT_SVE, _NT_PACA_KEYS, _NT_PACG_KEYS, _NT_TAGGED_ADDR_CTRL = 0x405, 0x407, 0x408, 0x409
_NT_PAC_ENABLED_KEYS, _NT_SSVE, _NT_ZA, _NT_GCS = 0x40A, 0x40B, 0x40C, 0x410
_WORD = struct.Struct("<Q")
_FPSIMD = struct.Struct("<64QII8x")
_ADDRESS_KEYS, _GENERIC_KEY = struct.Struct("<8Q"), struct.Struct("<2Q")
_ADDRESS_KEY_NAMES = tuple(f"ap{key}key_{half}" for key in ("ia", "ib", "da", "db") for half in ("lo", "hi"))
_SVE_HEADER = struct.Struct("<IIHHHH")
_SVE_FLAG_REGS = 1
_SVE_REGISTERS, _SVE_PREDICATES, _FPSIMD_BYTES = 32, 16, 16
_PR_SVE_GET_VL, _PR_SVE_VL_LENGTH = 51, 0xFFFF
_PSTATE_MODE = 0x1F
_GENERAL = 31


def load_ahead() -> None:
    _own_vector_length()


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


def _optional_regset(tracee: Tracee, note: int) -> bytes:
    """A register set that kernel or CPU may lack, or the thread not use: empty then."""
    try:
        return tracee.regset(note)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV):
            return b""
        raise


def _dump_keys(tracee: Tracee, info: Message) -> None:
    """Pointer authentication: return addresses on the stack are signed by these keys."""
    if address := _optional_regset(tracee, _NT_PACA_KEYS):
        keys = info.pac_keys.pac_address_keys
        for name, value in zip(_ADDRESS_KEY_NAMES, _ADDRESS_KEYS.unpack(address), strict=True):
            setattr(keys, name, value)
        (keys.pac_enabled_key,) = _WORD.unpack_from(tracee.regset(_NT_PAC_ENABLED_KEYS))
    if generic := _optional_regset(tracee, _NT_PACG_KEYS):
        keys = info.pac_keys.pac_generic_keys
        keys.apgakey_lo, keys.apgakey_hi = _GENERIC_KEY.unpack(generic)


def _problems(tracee: Tracee) -> list[tuple[str, str]]:
    """What images have no place for."""
    problems = []
    sve = _optional_regset(tracee, _NT_SVE)
    if sve and _has_live_vectors(sve):
        problems.append(("has live data in SVE registers, which images can't hold", "let it make a system call"))
    if sve and _vector_length(sve) != _own_vector_length():
        problems.append(("has a vector length of its own (PR_SVE_SET_VL)", "run the engine with the same one"))
    if _is_sve(_optional_regset(tracee, _NT_SSVE)) or len(_optional_regset(tracee, _NT_ZA)) > _SVE_HEADER.size:
        problems.append(("uses SME registers, which images can't hold", "have it leave streaming mode (SMSTOP)"))
    for note, what in ((_NT_TAGGED_ADDR_CTRL, "tagged addresses"), (_NT_GCS, "a guarded control stack")):
        if any(_optional_regset(tracee, note)[:8]):
            problems.append((f"uses {what}, which images can't hold", "start it without"))
    return problems


def _is_sve(content: bytes) -> bool:
    """Whether a vector regset holds vectors, rather than the FPSIMD registers in their place."""
    return bool(content) and bool(_SVE_HEADER.unpack_from(content)[4] & _SVE_FLAG_REGS)


def _own_vector_length() -> int:
    """The engine's, in bytes: what a thread is given that never asked for another. 0 on a processor without SVE."""
    try:
        return syscall(NR["prctl"], _PR_SVE_GET_VL) & _PR_SVE_VL_LENGTH
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return 0


def _vector_length(content: bytes) -> int:
    """In bytes."""
    return int(_SVE_HEADER.unpack_from(content)[2])


def _has_live_vectors(content: bytes) -> bool:
    """Whether NT_ARM_SVE holds anything beyond what FPSIMD shows: struct user_sve_header, Z0-31, P0-15, FFR."""
    if not _is_sve(content):
        return False
    length = _vector_length(content)
    vectors = content[_SVE_HEADER.size :]
    if any(any(vectors[n * length + _FPSIMD_BYTES : (n + 1) * length]) for n in range(_SVE_REGISTERS)):
        return True
    predicates = vectors[_SVE_REGISTERS * length :]
    return any(predicates[: (_SVE_PREDICATES + 1) * length // 8])


def ip(core: Message) -> int:
    return int(core.ti_aarch64.gpregs.pc)


def set_ip(core: Message, address: int) -> None:
    core.ti_aarch64.gpregs.pc = address


# Restore


def check(thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """All registers, and a user mode of 64 bits."""
    info = thread.core.ti_aarch64
    name = f"core-{thread.tid}.img"
    if len(info.gpregs.regs) != _GENERAL or len(info.fpsimd.vregs) != 2 * _SVE_REGISTERS:
        problem = f"{name}: {len(info.gpregs.regs)} general and {len(info.fpsimd.vregs)} vector register words"
        ctx.problems.add(problem, task.pid, "the image is damaged")
    if info.gpregs.pstate & _PSTATE_MODE:
        ctx.problems.add(f"{name}: pstate {info.gpregs.pstate:#x} is not that of 64-bit user mode", task.pid)
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
