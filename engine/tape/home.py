"""The way home: how a visited thread comes back to its own registers, also when the engine is dead. See visit.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel import ptrace, rseq
from engine.tape import arch as architectures
from engine.tape.stop_signals import StopSignals

if TYPE_CHECKING:
    from engine.kernel.memory import Memory
    from engine.tape.cave import Cave


class Home:
    """What a thread was before a visit, and the code that leads back to it.

    registers     its own
    stop_signals  those that came meanwhile
    """

    registers: dict[str, int]

    def __init__(self, thread: ptrace.Tracee, memory: Memory, cave: Cave) -> None:
        self.thread = thread
        self.memory = memory
        self.cave = cave
        self.arch = architectures.current()
        self.stop_signals = StopSignals(thread, memory.pid)

    def prepare(self, scratch: int, size: int) -> None:
        """Put the code into the cave. scratch: what it is going to unmap, of so many bytes. Raises CrError."""
        self.registers = self._own_registers()
        self._refuse_leaving()
        self._sigmask = self.thread.sigmask()
        self._vectors = self.arch.Vectors.of(self.thread)
        self._write(scratch, size)

    def _write(self, scratch: int, size: int) -> None:
        """The cave's code, and what the architecture has to put elsewhere."""
        cave = self.cave.address
        pieces = self.arch.way_home(self.registers, self._sigmask, scratch, size, self._vectors, cave)
        self._displaced = [(cave, self.cave.original)]
        try:
            self._displaced += [(address, self.memory.read(address, len(piece))) for address, piece in pieces[1:]]
        except OSError as error:
            raise CrError(
                f"task {self.memory.pid}: thread {self.thread.tid} has live vectors and no room below its stack pointer"
                f" to keep them: {error.strerror} (let it make a system call)"
            ) from None
        for address, piece in pieces:
            self.memory.write(address, piece)

    def _refuse_leaving(self) -> None:
        """A thread that was stopped by a signal while it was visited, by an engine that was killed then, can't go home
        before it is continued. Its registers are not its own."""
        if self.arch.instruction_pointer(self.registers) in self.cave:
            raise CrError(
                f"task {self.memory.pid}: thread {self.thread.tid} is still leaving an earlier dump, which was killed"
                " (have it continue by SIGCONT, then try again)"
            )

    def _own_registers(self) -> dict[str, int]:
        """The thread's registers, moved to the abort handler if it is in a restartable sequence."""
        registers: dict[str, int] = self.arch.unpack(self.thread.regset(ptrace.NT_PRSTATUS))
        ip = self.arch.instruction_pointer(self.arch.for_home(registers))
        abort = rseq.abort_address(self.thread, self.memory, ip)
        if abort is None:
            return registers
        moved: dict[str, int] = self.arch.moved_to(registers, abort)
        return moved

    def call(self, nr: int, *args: int) -> None:
        """One system call at `boot`, stopped behind it."""
        self.set_registers(self.arch.calling(self.registers, self.cave.address + self.arch.BOOT, nr, *args))
        self.step_over_syscall()

    def leave_by(self, nr: int, *args: int) -> None:
        """Run one last system call at `boot` and take the way home as far as its munmap, then put all back."""
        self.call(nr, *args)
        self.step_over_syscall()
        self.come()

    def come(self) -> None:
        """Be what it was, in a stop. Nothing of the visit is left."""
        self.thread.set_sigmask(self._sigmask)
        self.set_registers(self.arch.for_home(self.registers))
        self._vectors.put_back(self.thread)
        for address, content in self._displaced:
            self.memory.write(address, content)
        self.stop_signals.send()

    def set_registers(self, registers: dict[str, int]) -> None:
        """At once, or not at all."""
        self.thread.set_regset(ptrace.NT_PRSTATUS, self.arch.pack(registers))

    def step_over_syscall(self) -> int:
        """Go on to the exit of the next system call; what it returned."""
        for _ in ("entry", "exit"):
            self.thread.cont_to_syscall()
            while not (status := self.thread.wait()).is_syscall:
                if status.dead:
                    raise ProcessLookupError(f"task {self.memory.pid} is gone")
                self.stop_signals.hold(status)
                self.thread.cont_to_syscall()
        result: int = self.arch.syscall_result(self.arch.unpack(self.thread.regset(ptrace.NT_PRSTATUS)))
        return result
