"""Runners: traced tasks that have nothing to do but to run tapes, and stop by a trap after each."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel import ptrace
from engine.tape import arch as architectures
from engine.tape.tape import LAST, RECORD, Tape, TapeError

if TYPE_CHECKING:
    from engine.kernel.memory import Memory

_NEW_TASK_EVENTS = (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE)


class Runner:
    """One such thread.

    tid     thread id, also in the engine's pid namespace
    code    where the interpreter stands
    arena   where its tapes go, each of at most arena_size bytes
    """

    def __init__(self, tid: int, tracee: ptrace.Tracee, memory: Memory, code: int, arena: int, arena_size: int) -> None:
        self.tid = tid
        self.tracee = tracee
        self.memory = memory
        self.code = code
        self.arena = arena
        self.arena_size = arena_size
        self.arch = architectures.current()
        self._new_tasks: list[int] = []

    def start(self, tape: Tape) -> None:
        """Let the task begin a tape; finish() waits for its end."""
        self.prepare(tape)
        self.tracee.cont()

    def prepare(self, tape: Tape) -> None:
        """Have the stopped task stand at the beginning of a tape."""
        if tape.size > self.arena_size:
            raise CrError(f"task {self.tid}: {tape.size} bytes of state at once, where {self.arena_size} are possible")
        self.memory.write(self.arena, tape.compile(self.arena, LAST))
        registers = self.registers()
        self.set_registers(self.arch.interpreting(registers, self.code, self.arena, -1, 0))

    def finish(self, tape: Tape) -> None:
        """Wait for the tape that start() began and take its results. Raises TapeError."""
        while self._goes_on():
            continue
        self._load(tape)

    def _load(self, tape: Tape) -> None:
        stopped_at = (self.arch.current_record(self.registers()) - self.arena) // RECORD.size
        try:
            tape.load(self.memory.read(self.arena, tape.size), stopped_at)
        except TapeError as error:
            error.tid = self.tid
            raise

    def meet_child(self, tape: Tape) -> ptrace.Tracee:
        """Wait until the tape that start() began has made a task; that one, which stands. Raises TapeError."""
        while not self._new_tasks:
            if not self._goes_on():
                self._load(tape)
        return self.take_new_task()

    def run(self, tape: Tape) -> None:
        """Run a tape to its end. Raises TapeError when a call fails that may not."""
        if len(tape):
            self.start(tape)
            self.finish(tape)

    def _goes_on(self) -> bool:
        """Wait for the task's next stop and let it go on from there. False: it has come to the end of its tape."""
        status = self.tracee.wait()
        if status.dead:
            raise self.failure(f"died (wait status {status.raw:#x})")
        if status.event in _NEW_TASK_EVENTS:
            self._new_tasks.append(self.tracee.event_message())
        elif status.is_signal and status.signal == ptrace.SIGTRAP:
            return False
        elif status.is_signal and status.signal != signal.SIGCHLD:
            raise self.failure(f"was stopped by signal {status.signal} at {self._where()}")
        self.tracee.cont()
        return True

    def failure(self, what: str) -> CrError:
        """What has become of the task, as an error to be raised."""
        return CrError(f"task {self.tid}: {what} while it ran a tape")

    def _where(self) -> str:
        return ", ".join(f"{name}={value:#x}" for name, value in self.registers().items())

    def take_new_task(self) -> ptrace.Tracee:
        """The task that a tape of this one has made, once it stands still. Its tracing was inherited."""
        new = ptrace.Tracee(self._new_tasks.pop())
        while new.wait().event != ptrace.EVENT_STOP:
            new.cont()
        return new

    def registers(self) -> dict[str, int]:
        registers: dict[str, int] = self.arch.unpack(self.tracee.regset(ptrace.NT_PRSTATUS))
        return registers

    def set_registers(self, registers: dict[str, int]) -> None:
        self.tracee.set_regset(ptrace.NT_PRSTATUS, self.arch.pack(registers))
