"""aarch64: registers, the interpreter's bytes (aarch64.S beside this file), restart of interrupted system calls."""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple

from engine.kernel import pagemap_scan, ptrace, sve

NAME = "aarch64"
ELF_MACHINE = 183
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
    "000020d4d7ffff17010000d433010010600640a9e81a80d2010000d4690a40f9"
    "6902098b3f010091681180d2010000d4"
)
BOOT = 0xA8

# struct rt_sigframe (arch/arm64/kernel/signal.c): siginfo, ucontext up to the sigcontext, its general registers, then
# the records of __reserved: one for the floating-point registers, one for scalable vectors where they are live (struct
# sve_context), one of zeros that ends the list. All in all they may take 4096 bytes: longer vectors, which no processor
# has as yet, would need another record that leads to them.
_FRAME_BEFORE_REGISTERS = struct.Struct("128x8x8x24xQ120x8x8x")
_FPSIMD = struct.Struct("<IIII512s")
_FPSIMD_MAGIC, _FPSIMD_SIZE = 0x46508001, 528
_USER_FPSIMD = struct.Struct("<512sII8x")
_ALIGN_RESERVED = 8
_END = bytes(16)
_TABLE = struct.Struct("<QQQ8x")
_SVE_RECORD = struct.Struct("<IIHH4x")
_SVE_MAGIC = 0x53564501
LONGEST_VECTOR = 64

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


def system_call(nr: int) -> bytes:
    """Code of a function that makes a system call of its arguments: mov x8, #nr; svc #0; ret. It is no longer than a
    jump, and its answer is the kernel's, an error being -errno."""
    return struct.pack("<I", 0xD2800008 | nr << 5) + SYSCALL_INSTRUCTION + struct.pack("<I", 0xD65F03C0)


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


class Vectors(NamedTuple):
    """What system calls may take from a thread, and rt_sigreturn(2) has to give it back.

    fpsimd  struct user_fpsimd_state (NT_PRFPREG)
    sve     NT_ARM_SVE where it holds more, else nothing
    """

    fpsimd: bytes
    sve: bytes

    @classmethod
    def of(cls, thread: ptrace.Tracee) -> Vectors:
        return cls(thread.regset(ptrace.NT_PRFPREG), sve.live(thread))

    def put_back(self, thread: ptrace.Tracee) -> None:
        """Into a stopped thread that has made system calls meanwhile."""
        if self.sve:
            thread.set_regset(sve.NT_ARM_SVE, self.sve)


@cache
def vector_length() -> int:
    """Bytes of a scalable vector; 0 where there are none."""
    return sve.own_vector_length()


def home_size() -> int:
    """Bytes that the way home needs behind the interpreter."""
    return _TABLE.size + _FRAME_BEFORE_REGISTERS.size + _FORMAT.size + _ALIGN_RESERVED + _FPSIMD_SIZE + len(_END)


def way_home(
    registers: Registers, sigmask: int, scratch: int, length: int, vectors: Vectors, cave: int
) -> list[tuple[int, bytes]]:
    """Interpreter and way home as (address, bytes): what stands in the cave while a task is visited, at address `cave`.

    rt_sigreturn(2) takes no frame without floating-point registers here. With live vectors it is longer than the room
    that a vDSO has to spare: such a frame goes to where a signal's would, below the thread's own stack pointer. No code
    counts on what is there (AAPCS64, 6.4.5.1). Some of it may be found in the images.
    """
    fpsimd, fpsr, fpcr = _USER_FPSIMD.unpack(vectors.fpsimd)
    frame = _FRAME_BEFORE_REGISTERS.pack(sigmask) + pack(for_home(registers)) + bytes(_ALIGN_RESERVED)
    frame += _FPSIMD.pack(_FPSIMD_MAGIC, _FPSIMD_SIZE, fpsr, fpcr, fpsimd)
    table = cave + len(INTERPRETER)
    if not vectors.sve:
        return [(cave, INTERPRETER + _TABLE.pack(scratch, length, _TABLE.size) + frame + _END)]
    frame += _sve_record(vectors.sve) + _END
    below = (registers["sp"] - len(frame)) & ~15
    return [(cave, INTERPRETER + _TABLE.pack(scratch, length, below - table & _MAX)), (below, frame)]


def _sve_record(content: bytes) -> bytes:
    """struct sve_context for vectors as NT_ARM_SVE has them."""
    length = sve.vector_length(content)
    size = -(-(_SVE_RECORD.size + sve.size(length)) // 16) * 16
    return (_SVE_RECORD.pack(_SVE_MAGIC, size, length, 0) + sve.vectors(content)).ljust(size, b"\0")
