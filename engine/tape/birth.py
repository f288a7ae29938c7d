"""Twins: copies of a task's memory as it was at one instant, by copy-on-write.

The task itself clones, in a visit, and goes on at once; its twin keeps what the memory was and writes it down at
leisure. Nobody may notice, so the child that the task makes is gone again before the task runs on:

    task ── first ── second ── twin

- *first* is a child of the task without an exit signal, so no SIGCHLD tells of its death, and has a copy of its
  memory. It closes all descriptors, since pipes must not stay open because of a copy, and enters the namespaces of a
  foster parent (foster.py): for its children, as nobody can change his own pid namespace.
- *second* and the twin share the memory of *first*, and its now empty table of descriptors. They are in the foster
  parent's pid namespace.
- *second* is killed, and leaves no zombie, as *first* ignores SIGCHLD. Only now the twin is given away, and to nobody
  but the foster parent, as the search for a subreaper does not leave the namespace of the parent that exits. So
  *second* is needed: *first* is in the task's own namespace.
- *first* is killed and reaped by the task, which waits for it on the tape that made it, with no other thread running.

What remains: the time that *first* took is in the task's RUSAGE_CHILDREN, as is the size of its memory (ru_maxrss),
since only a reaped child leaves no zombie. While it lives, the twin counts as one process of the task's user and of
its control groups.

**The engine may die at any instant.** All three are traced, and die with the engine (PTRACE_O_EXITKILL) as soon as
that is said to the kernel, which can only be done once *first* exists. Before, it would run on where the task does, in
the middle of a tape. There stands kill(2) for a pid that cannot be; in *first* alone the kernel has put its own there
(CLONE_CHILD_SETTID). Should a seccomp filter keep it from that, it ends at the next record, which writes to the page
of the mailbox and of the way home: that page is not inherited (MADV_DONTFORK). The task meanwhile waits for *first*
to die, and if it does not come to that, then its rescue tape does. In the same way *first* outlives *second*.

What copy-on-write does not give to a child is filled in while the task stands: fill().
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from engine.errors import CrError, text_of
from engine.kernel import ptrace
from engine.kernel.libc import NR, syscall
from engine.kernel.memory import Memory
from engine.kernel.prctl import PR_SET_NAME
from engine.tape.arch import PAGE
from engine.tape.channel import Channel
from engine.tape.foster import CLONE_NEWPID, CLONE_NEWUSER
from engine.tape.rescue import NOBODY
from engine.tape.runner import Runner
from engine.tape.stub import CLONE_ARGS, CLONE_FILES, CLONE_FS, CLONE_VM
from engine.tape.tape import Tape, int32_at
from engine.tape.twin import Twin, end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.tape.foster import Foster
    from engine.tape.tape import Call
    from engine.tape.visit import Visit

_CLONE_CHILD_SETTID = 0x01000000
_MADV_DONTFORK = 10
_ALL_FDS = 0xFFFFFFFF
_NAME = b"crucible-twin\0"
_STEP = PAGE
_SIGSET_BYTES = 8


class Unborn(Exception):
    """There is no twin, and the task is none the worse for it."""


def bear(visit: Visit, foster: Foster) -> Twin:
    """Make a twin of a visited task that stands, as do all its threads. Raises Unborn when there can't be one; OSError
    or CrError when the visit is of no use any more."""
    with ExitStack() as undo:
        with visit.rescue.reaping() as reaped:
            birth = _Birth(visit)
            try:
                with or_unborn():
                    birth.begin(reaped)
                    twin = birth.go_on(foster, undo)
            finally:
                birth.conclude()
        undo.pop_all()
    return twin


@contextmanager
def or_unborn() -> Iterator[None]:
    """Errors in a with block mean that there is no twin."""
    try:
        yield
    except (CrError, OSError) as error:
        raise Unborn(error.message if isinstance(error, CrError) else text_of(error)) from error


class _Birth:
    """One birth, up to the moment at which there are only the task and its twin."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._options = visit.thread.options
        self._tape: Tape | None = None
        self._is_standing = self._has_cloned = False
        self._alive: list[ptrace.Tracee] = []
        self._memory: Memory | None = None

    def begin(self, reaped: int) -> None:
        """Have the task make `first`, which stands then. reaped: where to store its pid for the rescue tape."""
        visit = self._visit
        tape = _tape_of_parent(visit, reaped)
        visit.stand_at(tape)
        self._tape, self._is_standing = tape, True
        visit.thread.set_options(self._options | ptrace.O_TRACECLONE)
        while visit.step().event != ptrace.EVENT_CLONE:
            if visit.has_reported():
                self._let_task_go()
        self._has_cloned = True
        self._meet_first()
        self._let_task_go()

    def _meet_first(self) -> None:
        first = ptrace.Tracee(self._visit.thread.event_message())
        self._alive.append(first)
        while first.wait().event != ptrace.EVENT_STOP:
            first.cont()
        first.set_options(self._options | ptrace.O_EXITKILL)

    def _let_task_go(self) -> None:
        """It runs its tape to the end. Raises TapeError when that was not to be."""
        self._visit.thread.set_options(self._options)
        self._visit.thread.cont()
        self._is_standing = False
        if not self._has_cloned and self._tape:
            tape, self._tape = self._tape, None
            self._visit.finish(tape)

    def go_on(self, foster: Foster, undo: ExitStack) -> Twin:
        """All that comes after `first`. undo: is to end the twin, should this come to nothing."""
        visit = self._visit
        tracee = self._alive[0]
        self._memory = Memory(tracee.tid)
        first = Runner(tracee.tid, tracee, self._memory, visit.cave.address, visit.arena, visit.arena_size)
        channel = _empty(first)
        undo.callback(channel.close)
        _settle(first, channel, foster)
        tracee.set_options(self._options | ptrace.O_TRACEFORK)
        second = self._clone(first, _tape_of_first())
        second.tracee.set_options(self._options | ptrace.O_TRACEFORK | ptrace.O_EXITKILL)
        third = self._clone(second, _tape_of_second())
        twin = Twin(visit.memory.pid, third, channel)
        undo.callback(twin.close)
        self._alive.remove(third.tracee)
        self._end_all()
        return twin

    def _end_all(self) -> None:
        """Those that are left over, youngest first."""
        while self._alive:
            end(self._alive[-1])
            self._alive.pop()

    def _clone(self, parent: Runner, tape: Tape) -> Runner:
        """A child in the same memory, with the same descriptors."""
        parent.start(tape)
        child = parent.meet_child(tape)
        self._alive.append(child)
        # Beside the parent's tape, which is not at its end.
        arena, size = parent.arena + _STEP, parent.arena_size - _STEP
        return Runner(child.tid, child, parent.memory, parent.code, arena, size)

    def _find_unknown(self) -> None:
        """A child that was made, but not met: it would be traced, and so never gone, as long as the engine lives."""
        if self._alive:
            with contextlib.suppress(OSError):
                if child := self._alive[-1].event_message():
                    self._alive.append(ptrace.Tracee(child))

    def conclude(self) -> None:
        """Whatever has come of it: end those who are left over, and let the task reap `first`."""
        if self._has_cloned and not self._alive and self._is_standing:
            self._meet_first()
        self._find_unknown()
        self._end_all()
        if self._is_standing:
            self._let_task_go()
        if self._tape:
            self._visit.finish(self._tape)
        if self._memory:
            self._memory.close()


def _tape_of_parent(visit: Visit, reaped: int) -> Tape:
    """What the task runs, and `first` as well if the engine dies before it has said what is to become of it."""
    tape = Tape()
    tape.call("madvise", visit.scratch, PAGE, _MADV_DONTFORK)
    own_pid = tape.buffer(struct.pack("<i", NOBODY))
    args = tape.words(_CLONE_CHILD_SETTID, 0, own_pid, *[0] * 8)
    first = tape.call("clone3", args, CLONE_ARGS.size)
    tape.call("kill", int32_at(own_pid, 0), signal.SIGKILL, may_fail=True)
    tape.store(reaped, first)
    tape.call("wait4", first, 0, ptrace.WALL, 0)
    tape.store(reaped, NOBODY)
    return tape


def _empty(first: Runner) -> Channel:
    """Close all descriptors of `first`, leave the session and the directories of the task, and have no zombies."""
    tape = Tape()
    tape.call("close_range", 0, _ALL_FDS, 0)
    pair = tape.buffer(8)
    tape.call("socketpair", socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC, 0, pair)
    ignored = tape.words(signal.SIG_IGN, 0, 0, 0)
    tape.call("rt_sigaction", signal.SIGCHLD, ignored, 0, _SIGSET_BYTES)
    tape.call("setsid")
    tape.call("chdir", tape.buffer(b"/\0"), may_fail=True)
    tape.call("prctl", PR_SET_NAME, tape.buffer(_NAME))
    first.run(tape)
    theirs, ours = pair.unpack("<ii")
    pidfd = os.pidfd_open(first.tid)
    try:
        channel = Channel(socket.socket(fileno=syscall(NR["pidfd_getfd"], pidfd, ours, 0)), theirs)
    finally:
        os.close(pidfd)
    tape = Tape()
    tape.call("close", ours)
    first.run(tape)
    return channel


def _settle(first: Runner, channel: Channel, foster: Foster) -> None:
    """Have the children of `first` be born in the foster parent's pid namespace."""
    user_ns, pid_ns = channel.send(first, [foster.user_ns, foster.pid_ns])
    tape = Tape()
    tape.call("setns", user_ns, CLONE_NEWUSER)
    tape.call("setns", pid_ns, CLONE_NEWPID)
    tape.call("close", user_ns)
    tape.call("close", pid_ns)
    first.run(tape)


def _tape_of_first() -> Tape:
    """`first` is not made to die with the engine from now on: `second` is, and has to be gone before. What `second`
    runs, if the engine dies before that is said, is the same, and a process without children has none to wait for."""
    tape = Tape()
    second = _add_clone(tape)
    tape.call("wait4", second, 0, ptrace.WALL, 0, may_fail=True)
    tape.call("exit_group", 0)
    return tape


def _tape_of_second() -> Tape:
    tape = Tape()
    _add_clone(tape)
    return tape


def _add_clone(tape: Tape) -> Call:
    args = tape.words(CLONE_VM | CLONE_FS | CLONE_FILES, 0, 0, 0, signal.SIGCHLD, *[0] * 6)
    return tape.call("clone3", args, CLONE_ARGS.size)
