"""A visit: the engine inside a task that it dumps.

A task outlives its engine. If the engine is killed at any instant, the task must go on as if nothing had happened, so
at every moment of a visit the thread's registers are either its own, or lead by themselves to where they are its own
again:

- The only code of ours stands in a cave (cave.py), normally behind the end of the vDSO. No byte of the task's own text
  or stack changes, and the stack pointer never moves.
- One PTRACE_SETREGSET, which is atomic, takes the thread from its own registers to the cave's `boot`: a system call
  that maps the scratch area and falls through to `home`, which unmaps it, puts signal mask and registers back and
  jumps to where the thread was. Only while the engine is alive is that fall-through never reached.
- Between tapes the interpreter waits in read(2) on a socket whose other end only the engine has. End of file leads to
  the rescue tape (rescue.py), which closes what the visit opened, and then home.

Way home without sigreturn: rt_sigreturn(2) would reset the restart block (arch/x86/kernel/signal.c,
restore_sigcontext), and a nanosleep or poll that was interrupted by the freeze would end with EINTR.

A thread with a seccomp filter is visited with PTRACE_O_SUSPEND_SECCOMP. Only the engine's life holds that option, so
the way home of such a thread may meet its filter; see docs/architecture.md.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel import ptrace
from engine.kernel.libc import NR, syscall
from engine.kernel.procfs import read_limits
from engine.tape import arch as architectures
from engine.tape.arch import PAGE
from engine.tape.home import Home
from engine.tape.rescue import NO_FD, RescueTape
from engine.tape.tape import LAST, RECORD, Tape, int32_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from engine.kernel.memory import Memory
    from engine.tape.cave import Cave

SCRATCH_SIZE = 1 << 20
_MAILBOX = struct.Struct("<QQ")
_RESCUE = 64
_LIMITS = 512
_ARENA = PAGE
"""Tapes have pages of their own, so that what leads home can be kept from a child: birth.py."""
_RLIMIT_NOFILE = 7
_NO_SOCKET = 0x7FFFFFFF
_MAP = 0x02 | 0x20 | 0x100000  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
_PROT_RW = 3
_POLL_MS = 50


class Visit:
    """The inside of one thread, as a context manager. The thread is seized and stopped, and is so again afterwards.

    thread   the tracee
    pidfd    of its process
    memory   of its process
    cave     where the code goes, shared by the visits of a process, which come one after the other
    scratch  page-aligned address of SCRATCH_SIZE free bytes in its address space
    rescue   what the task does if the engine dies in it
    """

    def __init__(self, thread: ptrace.Tracee, pidfd: int, memory: Memory, cave: Cave, scratch: int) -> None:
        self.thread = thread
        self.pidfd = pidfd
        self.memory = memory
        self.cave = cave
        self.scratch = scratch
        self.arch = architectures.current()
        self.rescue = RescueTape(memory, scratch + _RESCUE)
        self._socket: socket.socket | None = None
        self._remote_socket = -1
        self._restore_limit: tuple[int, int, int] | None = None
        self._home = Home(thread, memory, cave)

    @property
    def arena_size(self) -> int:
        """Bytes that one tape may have."""
        return SCRATCH_SIZE - _ARENA

    @property
    def arena(self) -> int:
        """Where tapes go."""
        return self.scratch + _ARENA

    @staticmethod
    def cave_size() -> int:
        """Bytes of executable memory that a visit needs."""
        arch = architectures.current()
        return len(arch.INTERPRETER) + int(arch.home_size())

    # Entering and leaving

    def __enter__(self) -> Visit:
        try:
            self._enter()
        except ProcessLookupError as gone:
            raise self._killed() from gone
        return self

    def _enter(self) -> None:
        thread, arch = self.thread, self.arch
        self._home.prepare(self.scratch, SCRATCH_SIZE)
        boot = self.cave.address + arch.BOOT
        self._home.set_registers(
            arch.calling(self._home.registers, boot, NR["mmap"], self.scratch, SCRATCH_SIZE, _PROT_RW, _MAP, NO_FD, 0)
        )
        thread.set_sigmask(ptrace.ALL_SIGNALS)
        result = self._home.step_over_syscall()
        if result < 0:
            self._home.come()
            raise self._cannot("map memory for tapes", -result, "RLIMIT_AS")
        self._connect()

    def _connect(self) -> None:
        """Make the socket pair in the task and take one end of it."""
        rescue = self.rescue
        rescue.write()
        tape = Tape()
        pair = tape.buffer(8)
        tape.call("socketpair", socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC, 0, pair)
        tape.store(rescue.first, int32_at(pair, 0))
        tape.store(rescue.second, int32_at(pair, 4))
        tape.store(rescue.second, NO_FD)
        tape.call("close", int32_at(pair, 4))
        arena = self.arena
        self.memory.write(self.scratch, _MAILBOX.pack(0, rescue.address))
        self.memory.write(arena, tape.compile(arena))
        arch = self.arch
        result = self._interpret(arena)
        if result == -errno.EMFILE and self._widen_limit():
            self.memory.write(arena, tape.compile(arena))
            result = self._interpret(arena)
        if result < 0:
            self._take_back_lent()
            self._home.leave_by(NR["getpid"])
            raise self._cannot("open two descriptors for a socket", -result, "RLIMIT_NOFILE")
        content = self.memory.read(arena, tape.size)
        mine, theirs = struct.unpack_from("<ii", content, len(tape) * RECORD.size + pair.offset)
        self._socket = socket.socket(fileno=syscall(NR["pidfd_getfd"], self.pidfd, theirs, 0))
        self._remote_socket = mine
        now = arch.unpack(self.thread.regset(ptrace.NT_PRSTATUS))
        self._home.set_registers(arch.with_socket(now, mine))
        self.thread.cont()
        self._await_tape()

    def _interpret(self, record: int) -> int:
        """Start the interpreter without a socket and stop it behind its first call; what that returned. Should the
        engine die, it finds no socket at the end of the tape and goes on with the rescue tape."""
        self._set_interpreting(record, _NO_SOCKET)
        return self._home.step_over_syscall()

    def _set_interpreting(self, record: int, number: int) -> None:
        """Have the stopped thread stand at the beginning of a tape. number: of its socket"""
        self._home.set_registers(
            self.arch.interpreting(self._home.registers, self.cave.address, record, number, self.scratch)
        )

    def _widen_limit(self) -> bool:
        """Let a task whose descriptor table is full have a few more, until it is left or rescued. False where its hard
        limit leaves no room."""
        limit = read_limits(self.memory.pid)[_RLIMIT_NOFILE]
        if limit.soft >= limit.hard:
            return False
        old, wider = self.scratch + _LIMITS, self.scratch + _LIMITS + 16
        self.memory.write(old, struct.pack("<4Q", limit.soft, limit.hard, limit.hard, limit.hard))
        self._restore_limit = (NR["setrlimit"], _RLIMIT_NOFILE, old)
        self.rescue.set_limit(_RLIMIT_NOFILE, old)
        tape = Tape()
        tape.call("setrlimit", _RLIMIT_NOFILE, wider)
        arena = self.arena
        self.memory.write(arena, tape.compile(arena))
        return self._interpret(arena) == 0

    def _cannot(self, what: str, code: int, limit: str) -> CrError:
        return CrError(f"task {self.memory.pid}: can't {what} to be entered: {os.strerror(code)} (raise its {limit})")

    def _killed(self) -> CrError:
        return CrError(f"task {self.memory.pid}: was killed while it was dumped")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
            self._take_back_lent()
            self._home.leave_by(NR["close"], self._remote_socket)
        except ProcessLookupError as gone:
            if not isinstance(error, CrError):
                raise self._killed() from (error or gone)
        finally:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _stop(self) -> None:
        """Stop the thread, which waits in its read."""
        self.thread.interrupt()
        while not self._stopped_by_us(status := self.thread.wait()):
            self._home.stop_signals.hold(status)
            self.thread.cont()

    def _take_back_lent(self) -> None:
        """The limit that _widen_limit() changed, and the descriptor of a lend() that an error kept from closing it."""
        if self._restore_limit:
            self._home.call(*self._restore_limit)
        number = self.rescue.second_descriptor()
        if number is not None:
            self._home.call(NR["close"], number)

    def _stopped_by_us(self, status: ptrace.Status) -> bool:
        if status.dead:
            raise ProcessLookupError(f"task {self.memory.pid} is gone")
        return status.event == ptrace.EVENT_STOP

    # Running tapes

    def start(self, tape: Tape) -> None:
        """Let the task begin a tape; finish() waits for its end. In between, other tasks may run theirs."""
        arena = self.arena
        if tape.size > self.arena_size:
            raise ValueError(f"a tape of {tape.size} bytes does not fit into {self.arena_size}")
        self.memory.write(arena, tape.compile(arena, LAST))
        assert self._socket is not None
        self._socket.send(struct.pack("<Q", arena))

    def stand_at(self, tape: Tape) -> None:
        """Have the task stand at the beginning of a tape, as a tracee of the caller's, who lets it go on at last and
        then calls finish()."""
        self._stop()
        try:
            self.memory.write(self.arena, tape.compile(self.arena, LAST))
            self._set_interpreting(self.arena, self._remote_socket)
        except OSError:
            self.thread.cont()
            raise

    def step(self) -> ptrace.Status:
        """Let a standing task go on to the beginning or the end of a system call, or to an event in between."""
        while True:
            self.thread.cont_to_syscall()
            status = self.thread.wait()
            if status.dead:
                raise self._killed()
            if status.is_syscall or status.event:
                return status
            self._home.stop_signals.hold(status)

    def has_reported(self) -> bool:
        """Whether a tape has come to its end."""
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def finish(self, tape: Tape) -> None:
        """Wait for the tape that start() began and take its results. Raises TapeError."""
        stopped_at = self._await_tape()
        content = self.memory.read(self.arena, tape.size)
        tape.load(content, (stopped_at - self.arena) // RECORD.size)

    def run(self, tape: Tape) -> None:
        """Run a tape to its end. Raises TapeError when a call fails that may not."""
        self.start(tape)
        self.finish(tape)

    def _await_tape(self) -> int:
        """Wait until the interpreter reports; the address of the record that ended the tape."""
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not poll.poll(_POLL_MS):
            status = self.thread.poll()
            if status is None:
                continue
            if status.dead:
                raise self._killed()
            self._home.stop_signals.hold(status)
            self.thread.cont()
        report = self._socket.recv(8)
        if len(report) != 8:
            raise self._killed()
        (record,) = struct.unpack("<Q", report)
        return int(record)

    # Handing descriptors in

    @contextmanager
    def lend(self, fd: int) -> Iterator[int]:
        """Give the task a copy of one of our descriptors for the length of a with block; yields its number there.

        Its rescue tape closes it, should the engine die meanwhile.
        """
        assert self._socket is not None
        tape = Tape()
        byte = tape.buffer(1)
        control = tape.buffer(bytes(16) + b"\xff" * 8)
        header = tape.words(0, 0, tape.words(byte, 1), 1, control, 24, 0)
        tape.call("recvmsg", self._remote_socket, header, socket.MSG_CMSG_CLOEXEC)
        tape.store(self.rescue.second, int32_at(control, 16))
        self.start(tape)
        socket.send_fds(self._socket, [b"!"], [fd])
        self.finish(tape)
        (number,) = struct.unpack_from("<i", control.content, 16)
        if number < 0:
            raise CrError(f"task {self.memory.pid}: has no free descriptor to be given a file (raise RLIMIT_NOFILE)")
        try:
            yield number
        finally:
            if self._socket is not None:
                self._close(number)

    def take(self, name: str, *args: int) -> int:
        """Have the task make a descriptor by a system call, and take it over: nothing of it stays there, whatever
        happens. Raises TapeError."""
        tape = Tape()
        made = tape.call(name, *args)
        tape.store(self.rescue.second, made)
        self.run(tape)
        try:
            return syscall(NR["pidfd_getfd"], self.pidfd, made.result, 0)
        finally:
            self._close(made.result)

    def _close(self, number: int) -> None:
        """A descriptor of the task that its rescue tape would close."""
        tape = Tape()
        tape.store(self.rescue.second, NO_FD)
        tape.call("close", number)
        self.run(tape)
