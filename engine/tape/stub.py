"""Stubs: the empty tasks from which a restore makes the tree.

A stub starts as a minimal program, one page of interpreter and an area for tapes, at an address that is free in every
task to be. It does nothing but run tapes, and stops by a trap after each. The engine traces it with PTRACE_O_EXITKILL,
which its children inherit: when the engine dies, so does everything half-restored.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel import ptrace
from engine.kernel.libc import NR, syscall
from engine.kernel.memory import Memory
from engine.kernel.prctl import PR_SET_PDEATHSIG
from engine.tape import arch as architectures
from engine.tape.arch import PAGE
from engine.tape.runner import Runner
from engine.tape.tape import Tape

if TYPE_CHECKING:
    import socket

CODE_SIZE = PAGE
ARENA_SIZE = 4 << 20
PARKING_SIZE = 1 << 20
STUB_SIZE = CODE_SIZE + ARENA_SIZE + PARKING_SIZE
"""Bytes of address space that a stub occupies: code, tapes, and room to park the vDSO while mappings are made."""

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_PARENT, CLONE_THREAD, CLONE_SYSVSEM = 0x8000, 0x10000, 0x40000
THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
"""What makes a stub a thread of its creator's process, as pthread_create(3) has them."""
CLONE_ARGS = struct.Struct("<11Q")
_OPTIONS = (
    ptrace.O_EXITKILL
    | ptrace.O_TRACESYSGOOD
    | ptrace.O_TRACEFORK
    | ptrace.O_TRACEVFORK
    | ptrace.O_TRACECLONE
    | ptrace.O_TRACEEXEC
)
_MFD_CLOEXEC = 1
_RW, _RX, _RWX = 3, 5, 7
_MAP_FIXED_ANONYMOUS = 0x02 | 0x10 | 0x20
_AT_EMPTY_PATH = 0x1000


def _program(base: int) -> bytes:
    """A static ELF executable: the interpreter at `base`, the tape area behind it.

    Program headers: code (read, execute), tapes and parking (read, write, no bytes in the file). See elf(5).
    """
    arch = architectures.current()
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9), 2, arch.ELF_MACHINE, 1, base, 64, 0, 0, 64, 56, 2, 0, 0, 0,
    )  # fmt: skip
    code = struct.pack("<IIQQQQQQ", 1, 5, PAGE, base, base, CODE_SIZE, CODE_SIZE, PAGE)
    area = ARENA_SIZE + PARKING_SIZE
    tapes = struct.pack("<IIQQQQQQ", 1, 6, 2 * PAGE, base + CODE_SIZE, base + CODE_SIZE, 0, area, PAGE)
    interpreter: bytes = arch.INTERPRETER
    return (header + code + tapes).ljust(PAGE, b"\0") + interpreter.ljust(PAGE, b"\0")


class Stub(Runner):
    """One thread that runs tapes. A new process or thread comes from clone() of another stub.

    base   where the stub's code stands; same in the whole tree
    """

    def __init__(self, tid: int, tracee: ptrace.Tracee, memory: Memory, base: int) -> None:
        super().__init__(tid, tracee, memory, base, base + CODE_SIZE + 64, ARENA_SIZE - 64)
        self.base = base

    def failure(self, what: str) -> CrError:
        return CrError(f"task {self.tid}: {what} while it was restored")

    @property
    def parking(self) -> int:
        """Address of PARKING_SIZE bytes where mappings can wait until their place is free."""
        return self.base + CODE_SIZE + ARENA_SIZE

    def suspend_seccomp(self) -> None:
        """Have the kernel ignore the thread's seccomp filters until it is let go."""
        self.tracee.set_options(_OPTIONS | ptrace.O_SUSPEND_SECCOMP)

    def forget_program(self) -> None:
        """Replace the code page by an anonymous copy of itself.

        The kernel does not let a task change its executable while the old one is mapped (kernel/sys.c,
        prctl_set_mm_exe_file). The interpreter stands in the parking area while its page is exchanged.
        """
        self._protect(self.parking, _RWX)
        self.memory.write(self.parking, self.arch.INTERPRETER)
        self.code = self.parking
        tape = Tape()
        tape.call("mmap", self.base, CODE_SIZE, _RW, _MAP_FIXED_ANONYMOUS, -1, 0)
        self.run(tape)
        self.memory.write(self.base, self.arch.INTERPRETER)
        self._protect(self.base, _RX)
        self.code = self.base
        self._protect(self.parking, _RW)

    def _protect(self, page: int, prot: int) -> None:
        tape = Tape()
        tape.call("mprotect", page, PAGE, prot)
        self.run(tape)

    # Making tasks

    def clone(self, tid: int, flags: int = 0) -> Stub:
        """Make a process (or, with CLONE_THREAD, a thread) with this id. It stands ready for its first tape.

        Raises CrError, with EEXIST when the id is taken.
        """
        tape = Tape()
        ids = tape.buffer(struct.pack("<i", tid))
        exit_signal = 0 if flags & (CLONE_THREAD | CLONE_PARENT) else signal.SIGCHLD
        args = tape.words(flags, 0, 0, 0, exit_signal, 0, 0, 0, ids, 1, 0)
        tape.call("clone3", args, CLONE_ARGS.size)
        try:
            self.run(tape)
        except OSError as error:
            raise _cannot_make(tid, error) from error
        new = self.take_new_task()
        self.tracee.leads |= bool(flags & CLONE_THREAD)
        memory = self.memory if flags & CLONE_VM else Memory(tid)
        return Stub(tid, new, memory, self.base)

    # Letting go

    def let_go(self, tape: Tape, sigmask: int) -> None:
        """Run a tape that ends the thread, which is not traced any more and has this signal mask."""
        self.prepare(tape)
        self.tracee.set_sigmask(sigmask)
        self.tracee.detach()

    def unmap_and(self, registers: dict[str, int], unmap: bool) -> None:
        """Give the thread its final registers. unmap: take the stub's own mappings away first.

        The munmap takes the page away under the very instruction that called it; the thread is caught at the exit of
        the system call and never fetches another one there.
        """
        if unmap:
            trap = self.base + self.arch.BOOT
            self.set_registers(self.arch.calling(self.registers(), trap, NR["munmap"], self.base, STUB_SIZE))
            for _ in ("entry", "exit"):
                self.tracee.cont_to_syscall()
                status = self.tracee.wait()
                if not status.is_syscall:
                    raise CrError(f"task {self.tid}: stopped by {status.raw:#x} while it unmapped its stub")
        self.set_registers(registers)


def make_root_stub(pid: int, base: int, channel: socket.socket, number: int, flags: int = 0) -> Stub:
    """Make the root's process. channel: its end of the socket over which descriptors come, to be its descriptor
    `number`; it has no others. flags: CLONE_PARENT makes it a sibling of the engine.

    Raises CrError, with EEXIST when the pid is taken.
    """
    program = syscall(NR["memfd_create"], b"crucible-stub\0", _MFD_CLOEXEC)
    os.write(program, _program(base))
    go_read, go_write = os.pipe()
    try:
        _clone3_root(pid, flags, program, channel.fileno(), number, (go_read, go_write))
        tracee = ptrace.Tracee.seize(pid, _OPTIONS)
        os.write(go_write, b"!")
        while (status := tracee.wait()).event != ptrace.EVENT_EXEC:
            if status.dead:
                raise CrError(f"task {pid}: could not start as a stub (wait status {status.raw:#x})")
            tracee.cont(status.signal if status.is_signal else 0)
    finally:
        for fd in (program, go_read, go_write):
            os.close(fd)
    stub = Stub(pid, tracee, Memory(pid), base)
    tracee.set_sigmask(ptrace.ALL_SIGNALS)
    tape = Tape()
    if number:
        tape.call("close_range", 0, number - 1, 0)
    tape.call("close_range", number + 1, 0xFFFFFFFF, 0)
    stub.run(tape)
    stub.forget_program()
    return stub


def _clone3_root(pid: int, flags: int, program: int, channel: int, number: int, go: tuple[int, int]) -> None:
    """clone3 with set_tid from Python: a fork, whose child makes nothing but system calls before it execs.

    go: the pipe on which the child waits until it is traced. An engine that dies before that takes the child with it:
    by its signal for the parent's death, by end of file if it was dead before the child could ask for that.
    """
    import ctypes

    ids = ctypes.c_int32(pid)
    exit_signal = 0 if flags & CLONE_PARENT else int(signal.SIGCHLD)
    args = CLONE_ARGS.pack(flags, 0, 0, 0, exit_signal, 0, 0, 0, ctypes.addressof(ids), 1, 0)
    try:
        child = syscall(NR["clone3"], args, len(args))
    except OSError as error:
        raise _cannot_make(pid, error) from error
    if child:
        return
    try:
        syscall(NR["prctl"], PR_SET_PDEATHSIG, int(signal.SIGKILL))
        os.close(go[1])
        if os.read(go[0], 1):
            os.dup2(channel, number, inheritable=True)
            syscall(NR["execveat"], program, b"\0", None, None, _AT_EMPTY_PATH)
    finally:
        os._exit(127)


def _cannot_make(tid: int, error: OSError) -> CrError:
    if error.errno == errno.EEXIST:
        return CrError(f"task {tid}: its pid is in use (end the process that has it)", cr_errno=17)
    return CrError(f"task {tid}: clone3: {os.strerror(error.errno or 0)}")
