"""x86_64: registers, the interpreter's bytes (x86_64.S beside this file), restart of interrupted system calls."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.kernel.ptrace import Tracee

NAME = "x86_64"
ELF_MACHINE = 62
HIDES_RESTARTS = False

_ORDER = (
    "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss fs_base gs_base ds es fs gs"
).split()
_FORMAT = struct.Struct("27Q")

INTERPRETER = bytes.fromhex(
    "8b038b6b04488b7b08488b7310488b53184c8b53204c8b43284c8b4b3040f6c5"
    "0475200f0548894338483d01f0ffff732140f6c508757b40f6c502751b4883c3"
    "40ebbd488b074821d048890648894338ebdf40f6c50175d94585ed784749891e"
    "b82c0000004489ef4c89f6ba0800000041ba004000004531c04531c90f0531c0"
    "4489ef4c89f6ba080000000f054883f8087508498b1ee965ffffff498b5e08e9"
    "5cffffffcce956ffffff660f1f4400000f05488d1d7f000000b80b000000488b"
    "3b488b73080f05b80e000000bf02000000488d731031d241ba080000000f058a"
    "4318047f8a63199e4c8b7b204c8b73284c8b6b304c8b6338488b6b404c8b5b50"
    "4c8b53584c8b4b604c8b4368488b4370488b4b78488b9380000000488bb38800"
    "0000488bbb90000000488b5b48ff25a50000000f1f440000"
)
BOOT = 0xB0
_HOME_TABLE = struct.Struct("QQQBB6x15Q8xQ")

_ERESTARTSYS, _ERESTARTNOINTR, _ERESTARTNOHAND, _ERESTART_RESTARTBLOCK = 512, 513, 514, 516
_EINTR = 4
_NR_RESTART_SYSCALL = 219
_SYSCALL_LENGTH = 2
_OVERFLOW = 1 << 11
_MAX = (1 << 64) - 1
_TASK_SIZE = (1 << 47) - 4096

Registers = dict[str, int]


def task_size() -> int:
    """The end of user space, without what five-level page tables add for those who ask for it."""
    return _TASK_SIZE


def unpack(content: bytes) -> Registers:
    """struct user_regs_struct (NT_PRSTATUS) as names and unsigned values."""
    return dict(zip(_ORDER, _FORMAT.unpack(content), strict=True))


def pack(registers: Registers) -> bytes:
    return _FORMAT.pack(*(registers[name] for name in _ORDER))


def _interrupted(registers: Registers) -> int:
    """The restart error a stopped thread is about to act on, 0 for none.

    A thread stopped inside a system call shows the call's number in orig_ax and -ERESTART… in ax; the kernel acts on
    them on the way out of the stop (arch/x86/kernel/signal.c, arch_do_signal_or_restart).
    """
    if registers["orig_ax"] >> 63:
        return 0
    error = -registers["ax"] & _MAX
    known = (_ERESTARTSYS, _ERESTARTNOINTR, _ERESTARTNOHAND, _ERESTART_RESTARTBLOCK)
    return error if error in known else 0


def for_image(registers: Registers) -> Registers:
    """Registers as they go into an image: an interrupted call starts again, one with a restart block ends with EINTR.

    The restart block lives in the kernel's task struct and can't be carried over, so nanosleep, poll and futex waits
    with a relative timeout return EINTR, as they do after a signal.
    """
    result = dict(registers)
    error = _interrupted(registers)
    if error == _ERESTART_RESTARTBLOCK:
        result["ax"] = -_EINTR & _MAX
    elif error:
        result["ax"] = result["orig_ax"]
        result["ip"] -= _SYSCALL_LENGTH
    return result


def for_home(registers: Registers) -> Registers:
    """Registers with which user code itself goes on where a stop was, in the same kernel task: the restart block is
    still there and restart_syscall(2) picks it up."""
    result = for_image(registers)
    if _interrupted(registers) == _ERESTART_RESTARTBLOCK:
        result["ax"] = _NR_RESTART_SYSCALL
        result["ip"] -= _SYSCALL_LENGTH
    return result


def jump(target: int) -> bytes:
    """Code that goes to an address from anywhere: movabs $target, %rax; jmp *%rax. A function's caller expects nothing
    of rax."""
    return b"\x48\xb8" + struct.pack("<Q", target) + b"\xff\xe0"


def system_call(nr: int) -> bytes:
    """Code of a function that makes a system call of its arguments, three at most: mov $nr, %eax; syscall; ret. It is
    no longer than a jump, and its answer is the kernel's, an error being -errno."""
    return b"\xb8" + struct.pack("<I", nr) + b"\x0f\x05\xc3"


def instruction_pointer(registers: Registers) -> int:
    return registers["ip"]


def moved_to(registers: Registers, ip: int) -> Registers:
    """The same registers at another instruction, where no system call is left to be restarted."""
    return dict(registers, ip=ip, orig_ax=_MAX)


def calling(registers: Registers, ip: int, nr: int, *args: int) -> Registers:
    """Registers that make a thread run system call `nr` at the syscall instruction at `ip`."""
    result = dict(registers, ip=ip, ax=nr, orig_ax=_MAX)
    for name, value in zip(("di", "si", "dx", "r10", "r8", "r9"), args, strict=False):
        result[name] = value & _MAX
    return result


def interpreting(registers: Registers, code: int, record: int, socket: int, mailbox: int) -> Registers:
    """Registers that start the interpreter at `code` on `record`. socket -1 makes it stop by a trap."""
    return dict(registers, ip=code, orig_ax=_MAX, bx=record, r13=socket & _MAX, r14=mailbox)


def with_socket(registers: Registers, socket: int) -> Registers:
    """Registers of a running interpreter that from now on reports to `socket`."""
    return dict(registers, r13=socket)


def current_record(registers: Registers) -> int:
    return registers["bx"]


def syscall_result(registers: Registers) -> int:
    """What the system call returned, negative errno for an error."""
    value = registers["ax"]
    return value - (1 << 64) if value >> 63 else value


class Vectors:
    """What system calls may take from a thread: nothing here, they and the way home leave its vectors alone."""

    @classmethod
    def of(cls, _: Tracee) -> Vectors:
        return cls()

    def put_back(self, _: Tracee) -> None:
        return


def home_size() -> int:
    """Bytes that the way home needs behind the interpreter."""
    return _HOME_TABLE.size


def way_home(
    registers: Registers, sigmask: int, scratch: int, length: int, _: Vectors, cave: int
) -> list[tuple[int, bytes]]:
    """Interpreter and way home as (address, bytes): what stands in the cave, at that address, during a visit."""
    home = for_home(registers)
    flags = home["flags"]
    saved = ("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di")
    table = _HOME_TABLE.pack(
        scratch,
        length,
        sigmask,
        1 if flags & _OVERFLOW else 0,
        flags & 0xFF,
        *(home[name] for name in saved),
        home["ip"],
    )
    return [(cave, INTERPRETER + table)]
