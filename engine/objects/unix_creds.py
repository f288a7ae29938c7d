"""Who made a unix socket: SO_PEERCRED, unix(7).

The kernel notes process and user of whoever calls socketpair(2), listen(2) or connect(2), and shows them to the peer.
So these calls are made by the task's stub, under the user and group of that time. A process that is gone by now gets a
stand-in for the moment, which has its pid.

The effective ids are what is noted. The capabilities, which decide what may be done, stay root's: see
SECBIT_NO_SETUID_FIXUP in capabilities(7).
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import log
from engine.errors import CrError
from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_GET_SECUREBITS, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP
from engine.kernel.ptrace import WALL
from engine.kernel.sockets import connect as connect_directly
from engine.objects.socket_label import SocketLabels
from engine.tape.stub import CLONE_VM
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.restore_context import RestoreContext
    from engine.tape.stub import Stub

Message = Any

_KEEP = 0xFFFFFFFF
_ROOT = 0
UCRED = struct.Struct("=iII")


class Creds(NamedTuple):
    """struct ucred."""

    pid: int
    uid: int
    gid: int


# Dump


def dump_peer(sock: socket.socket, entry: Message) -> None:
    """Note what SO_PEERCRED says. It says pid 0 for a socket that never had a peer."""
    creds = Creds(*UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)))
    if creds.pid:
        entry.peer_creds.pid, entry.peer_creds.uid, entry.peer_creds.gid = creds


# Restore


def peer_of(entry: Message, actor: Message, ctx: RestoreContext) -> Creds | None:
    """Who is to be the peer of a socket, None if nobody knows.

    Images of CRIU don't say. It is the first task then that has the socket `actor`.
    """
    if entry.HasField("peer_creds"):
        return Creds(entry.peer_creds.pid, entry.peer_creds.uid, entry.peer_creds.gid)
    return holder_of(actor, ctx)


def holder_of(entry: Message, ctx: RestoreContext) -> Creds | None:
    """The first task that has a socket, with its user and group."""
    return ctx.part(_Holders).creds.get(entry.id)


class _Holders:
    """The first task that has a description, by id."""

    def __init__(self, ctx: RestoreContext) -> None:
        self.creds: dict[int, Creds] = {}
        for task in ctx.tasks:
            for held in task.fdinfo:
                creds = task.core.thread_core.creds
                self.creds.setdefault(held.id, Creds(task.pid, creds.euid, creds.egid))


def socketpair(kind: int, creds: Creds | None, file_id: int, ctx: RestoreContext) -> tuple[int, int]:
    """Two connected sockets, each with these creds as its peer's, both with the security label of one of them."""
    with _actor(creds, ctx) as stub:
        if stub is None or creds is None:
            with ctx.part(SocketLabels).giving(file_id):
                left, right = socket.socketpair(socket.AF_UNIX, kind)
            return left.detach(), right.detach()
        tape = Tape()
        pair = tape.buffer(8)
        with ctx.part(SocketLabels).giving_in(stub, tape, file_id):
            _under(tape, creds, lambda: tape.call("socketpair", socket.AF_UNIX, kind | socket.SOCK_CLOEXEC, 0, pair))
        stub.run(tape)
        numbers = pair.unpack("<ii")
        with _pidfd(stub) as pidfd:
            ends = [syscall(NR["pidfd_getfd"], pidfd, number, 0) for number in numbers]
        tape = Tape()
        for number in numbers:
            tape.call("close", number)
        stub.run(tape)
        return ends[0], ends[1]


def listen(fd: int, backlog: int, creds: Creds | None, ctx: RestoreContext) -> None:
    """Make a bound socket listen. Those who connect to it see these creds."""
    with _actor(creds, ctx) as stub:
        if stub is None or creds is None:
            syscall(NR["listen"], fd, backlog)
            return
        with _lent(stub, fd, ctx) as (tape, number):
            _under(tape, creds, lambda: tape.call("listen", number, backlog))


def connect(fd: int, address: bytes, creds: Creds | None, ctx: RestoreContext) -> None:
    """Connect a socket. The other side sees these creds. address: a struct sockaddr."""
    with _actor(creds, ctx) as stub:
        if stub is None or creds is None:
            connect_directly(fd, address)
            return
        with _lent(stub, fd, ctx) as (tape, number):
            buffer = tape.buffer(address)
            _under(tape, creds, lambda: tape.call("connect", number, buffer, len(address)))


@contextmanager
def existing(pid: int, ctx: RestoreContext) -> Iterator[bool]:
    """There is a process of this pid as long as a with block lasts, if that can be. Yields whether there is."""
    with _actor(Creds(pid, _ROOT, _ROOT), ctx) as stub:
        yield stub is not None or os.path.exists(f"/proc/{pid}")


def _under(tape: Tape, creds: Creds, calls: Callable[[], object]) -> None:
    """Have calls made under these ids, which are not the stub's for long."""
    if (creds.uid, creds.gid) == (_ROOT, _ROOT):
        calls()
        return
    bits = syscall(NR["prctl"], PR_GET_SECUREBITS)
    tape.call("prctl", PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    tape.call("setresgid", _KEEP, creds.gid, _KEEP)
    tape.call("setresuid", _KEEP, creds.uid, _KEEP)
    calls()
    tape.call("setresuid", _KEEP, _ROOT, _KEEP)
    tape.call("setresgid", _KEEP, _ROOT, _KEEP)
    tape.call("prctl", PR_SET_SECUREBITS, bits, 0, 0, 0)


@contextmanager
def _lent(stub: Stub, fd: int, ctx: RestoreContext) -> Iterator[tuple[Tape, int]]:
    """A tape to do something with one of our descriptors: (tape, the descriptor's number in the stub)."""
    (number,) = ctx.channel.send(stub, [fd])
    tape = Tape()
    try:
        yield tape, number
        stub.run(tape)
    finally:
        tape = Tape()
        tape.call("close", number)
        stub.run(tape)


@contextmanager
def _pidfd(stub: Stub) -> Iterator[int]:
    pidfd = os.pidfd_open(stub.tid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


@contextmanager
def _actor(creds: Creds | None, ctx: RestoreContext) -> Iterator[Stub | None]:
    """The stub that acts for a process: the task's own, or a stand-in's. None: we must do it ourselves."""
    task = next((task for task in ctx.tasks if creds is not None and task.pid == creds.pid), None)
    if task is not None or creds is None:
        yield task.stub if task else None
        return
    root = ctx.tasks[0].stub
    try:
        stand_in = root.clone(creds.pid, CLONE_VM)
    except CrError as error:
        log.warn(f"process {creds.pid}, which used a unix socket, can't be stood in for: {error.message}")
        yield None
        return
    try:
        yield stand_in
    finally:
        os.kill(stand_in.tid, signal.SIGKILL)
        while not stand_in.tracee.wait().dead:
            continue
        tape = Tape()
        tape.call("wait4", stand_in.tid, 0, WALL, 0)
        root.run(tape)
