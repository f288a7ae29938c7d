"""aarch64: registers, the interpreter's bytes (aarch64.S beside this file), restart of interrupted system calls."""

from __future__ import annotations

import struct

from engine.kernel import pagemap_scan

NAME = "aarch64"
ELF_MACHINE = 183
HOME_NEEDS_FLOATING = True
HIDES_RESTARTS = True
SYSCALL_INSTRUCTION = bytes.fromhex("010000d4")  # svc #0

_ORDER = (*(f"x{n}" for n in range(31)), "sp", "pc", "pstate")
_FORMAT = struct.Struct("34Q")

INTERPRETER = bytes.fromhex(
    "685a4029608640a9628e41a9649642a936011037010000d4601e00f91ffc3fb1"
    "42010054560418373601083773020191f4ffff17030040f96300028a230000f9"
    "631e00f9f8ffff17f6fe0737b402f837b30200f9c81980d2e003142ae10315aa"
    "020180d2030088d2040080d2050080d2010000d4e80780d2e003142ae10315aa"
    "020180d2010000d41f2000f161000054b30240f9dbffff17b30640f9d9ffff17"
    "000020d4d7ffff17010000d433010010600640a9e81a80d2010000d469420091"
    "3f010091681180d2010000d41f2003d5"
)
BOOT = 0xA8

# struct rt_sigframe (arch/arm64/kernel/signal.c): siginfo, ucontext up to the sigcontext, its general registers, then
# the records of __reserved: one for the floating-point registers, one of zeros that ends the list.
_FRAME_BEFORE_REGISTERS = struct.Struct("128x8x8x24xQ120x8x8x")
_FPSIMD = struct.Struct("<IIII512s")
_FPSIMD_MAGIC, _FPSIMD_SIZE = 0x46508001, 528
_USER_FPSIMD = struct.Struct("<512sII8x")
_ALIGN_RESERVED = 8
_END = bytes(16)
HOME_TABLE_SIZE = 16 + _FRAME_BEFORE_REGISTERS.size + _FORMAT.size + _ALIGN_RESERVED + _FPSIMD_SIZE + len(_END)

_NR_FUTEX, _NR_NANOSLEEP, _NR_CLOCK_NANOSLEEP, _NR_RESTART_SYSCALL = 98, 101, 115, 128
_RESTARTED_BY_BLOCK = (_NR_FUTEX, _NR_NANOSLEEP, _NR_CLOCK_NANOSLEEP)
_EINTR = 4

_BTYPE = 3 << 10
_MAX = (1 << 64) - 1

Registers = dict[str, int]


def task_size() -> int:
    """The end of user space. Kernels are built for 39 to 52 bits of addresses. One of 52 bits gives out no more than 48
    unless it is asked, so the stack tells less than PAGEMAP_SCAN does, where the kernel has that."""
    if pagemap_scan.can_scan():
        return pagemap_scan.task_size()
    with open("/proc/self/maps") as maps:
        highest = max(int(line.split("-")[1].split()[0], 16) for line in maps)
    return 1 << (highest - 1).bit_length()


def unpack(content: bytes) -> Registers:
    """struct user_pt_regs (NT_PRSTATUS) as names and unsigned values."""
    return dict(zip(_ORDER, _FORMAT.unpack(content), strict=True))


def pack(registers: Registers) -> bytes:
    return _FORMAT.pack(*(registers[name] for name in _ORDER))


def for_image(registers: Registers) -> Registers:
    """Registers as they go into an image.

    An interrupted system call is undone by the kernel itself before a tracer sees the stop: pc is at the svc again and
    x0 is its old argument (arch/arm64/kernel/signal.c, do_signal). One with a restart block, which can't be carried
    over, has become restart_syscall (tape/restart.py) and ends with EINTR, as it does after a signal.
    """
    if registers["x8"] != _NR_RESTART_SYSCALL:
        return registers
    return dict(registers, x0=-_EINTR & _MAX, pc=registers["pc"] + len(SYSCALL_INSTRUCTION))


def for_home(registers: Registers) -> Registers:
    """Registers with which user code itself goes on where a stop was, in the same kernel task: its restart block is
    still there."""
    return registers


def may_hide_restart(registers: Registers) -> bool:
    """Whether a thread that stands at a system call may have been in it, and the kernel have kept a restart block."""
    return registers["x8"] in _RESTARTED_BY_BLOCK


def jump(target: int) -> bytes:
    """Code that goes to an address from anywhere: ldr x16, .+8; br x16. x16 is for such use (AAPCS64, IP0)."""
    return struct.pack("<IIQ", 0x58000050, 0xD61F0200, target)


def instruction_pointer(registers: Registers) -> int:
    return registers["pc"]


def moved_to(registers: Registers, ip: int) -> Registers:
    """The same registers at another instruction."""
    return dict(registers, pc=ip)


def _landed(registers: Registers) -> Registers:
    """PSTATE.BTYPE cleared: after an indirect branch, the vDSO would take nothing but a landing pad (BTI)."""
    return dict(registers, pstate=registers["pstate"] & ~_BTYPE)


def calling(registers: Registers, ip: int, nr: int, *args: int) -> Registers:
    """Registers that make a thread run system call `nr` at the svc instruction at `ip`."""
    result = dict(_landed(registers), pc=ip, x8=nr)
    for number, value in enumerate(args):
        result[f"x{number}"] = value & _MAX
    return result


def interpreting(registers: Registers, code: int, record: int, socket: int, mailbox: int) -> Registers:
    """Registers that start the interpreter at `code` on `record`. socket -1 makes it stop by a trap."""
    return dict(_landed(registers), pc=code, x19=record, x20=socket & _MAX, x21=mailbox)


def with_socket(registers: Registers, socket: int) -> Registers:
    """Registers of a running interpreter that from now on reports to `socket`."""
    return dict(registers, x20=socket)


def current_record(registers: Registers) -> int:
    return registers["x19"]


def syscall_result(registers: Registers) -> int:
    """What the system call returned, negative errno for an error."""
    value = registers["x0"]
    return value - (1 << 64) if value >> 63 else value


def cave(registers: Registers, sigmask: int, scratch: int, length: int, floating: bytes) -> bytes:
    """Interpreter and way home in one piece: what stands in the vDSO's slack while a task is visited.

    floating: struct user_fpsimd_state (NT_PRFPREG), without which rt_sigreturn(2) takes no frame here.
    """
    vectors, fpsr, fpcr = _USER_FPSIMD.unpack(floating)
    frame = _FRAME_BEFORE_REGISTERS.pack(sigmask) + pack(for_home(registers)) + bytes(_ALIGN_RESERVED)
    frame += _FPSIMD.pack(_FPSIMD_MAGIC, _FPSIMD_SIZE, fpsr, fpcr, vectors) + _END
    return INTERPRETER + struct.pack("<QQ", scratch, length) + frame
