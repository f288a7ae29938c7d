"""Twins: who writes down in the place of a task what its memory was at one instant. How they come to be: birth.py."""

from __future__ import annotations

import contextlib
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel.memory import Memory
from engine.tape.runner import Runner
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.kernel import ptrace
    from engine.tape.channel import Channel

_MAP_FIXED_ANONYMOUS = 0x02 | 0x10 | 0x20
_PROT_RW = 3
_COPY_BYTES = 1 << 20


class Twin(Runner):
    """One twin, as what runs tapes in the memory of another task: it stands in for a Visit of it.

    pid       of the task
    channel   how it gets descriptors, of which it has no others
    """

    def __init__(self, pid: int, runner: Runner, channel: Channel) -> None:
        memory = Memory(runner.tid)
        super().__init__(runner.tid, runner.tracee, memory, runner.code, runner.arena, runner.arena_size)
        self.pid = pid
        self.channel = channel

    def failure(self, what: str) -> CrError:
        return CrError(f"task {self.pid}: its twin, process {self.tid}, {what} (is memory short?)")

    def start(self, tape: Tape) -> None:
        """Let it begin a tape; finish() waits for its end."""
        try:
            super().start(tape)
        except OSError as error:
            raise self.failure("has died") from error

    @contextmanager
    def lend(self, fd: int) -> Iterator[int]:
        """Give it a copy of one of our descriptors for the length of a with block; yields its number there."""
        (number,) = self.channel.send(self, [fd])
        yield number
        tape = Tape()
        tape.call("close", number)
        self.run(tape)

    def fill(self, start: int, end: int, task: Memory, pages: list[tuple[int, int]]) -> None:
        """Give it anonymous memory between start and end, in place of whatever is there, with the content that
        `pages`, (start, end), have in the task's memory."""
        tape = Tape()
        tape.call("mmap", start, end - start, _PROT_RW, _MAP_FIXED_ANONYMOUS, -1, 0)
        self.run(tape)
        for low, high in pages:
            for address in range(low, high, _COPY_BYTES):
                self.memory.write(address, task.read(address, min(_COPY_BYTES, high - address)))

    def close(self) -> None:
        """End it."""
        try:
            end(self.tracee)
        finally:
            self.channel.close()
            self.memory.close()


def end(tracee: ptrace.Tracee) -> None:
    """See a tracee dead, which then is its parent's to reap."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(tracee.tid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while not tracee.wait().dead:
            with contextlib.suppress(ProcessLookupError):
                tracee.cont()
