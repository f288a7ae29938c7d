"""The context that SELinux has given to a socket: security.selinux of its inode; its peer sees it as SO_PEERSEC.

A socket is born with its creator's context, or with that which the creator wants for new sockets (attr/sockcreate), and
what is accepted has its listener's (security/selinux/hooks.c, selinux_socket_accept). setxattr(2) would change the
inode's alone. So a socket is restored by a thread that wants this context for new sockets.

Images have it at the descriptors of a socket. One in flight that no task has open has none; there it is in the socket's
own entry, where only this engine looks for it.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine import log
from engine.images.text import get_text
from engine.kernel import lsm
from engine.kernel.sockets import new_socket
from engine.task.lsm import Module, Wanted, give_proc, set_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext
    from engine.tape.stub import Stub
    from engine.tape.tape import Tape

_ATTRIBUTE = "security.selinux"


def dumped(file: OpenFile, ctx: DumpContext) -> str:
    """The context of what is open, empty for all but sockets."""
    if ctx.part(Module).kind != lsm.SELINUX or not stat.S_ISSOCK(file.stat.st_mode):
        return ""
    return _of(file.copy)


def _of(fd: int) -> str:
    return os.fsdecode(os.getxattr(fd, _ATTRIBUTE).rstrip(b"\0"))


# Restore


class SocketLabels:
    """The contexts that sockets shall have."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._wanted = ctx.part(Wanted)
        self._by_id: dict[int, str] = {}
        if self._wanted.kind == lsm.SELINUX:
            for entry in (entry for task in ctx.tasks for entry in task.fdinfo):
                self._have(entry.id, entry.xattr_security_selinux)
            for entry in ctx.entries.values():
                self._have(entry.id, entry.usk.selinux_context)

    def _have(self, file_id: int, context: str | bytes) -> None:
        if context:
            self._by_id[file_id] = get_text(context)

    def of(self, file_id: int) -> str:
        """Empty where the images have none."""
        return self._by_id.get(file_id, "")

    def check(self, file_id: int, what: str) -> None:
        """The policy must know it. Where SELinux is not active at all, that has been said of the tasks."""
        if self.of(file_id) and lsm.active() == lsm.SELINUX:
            self._wanted.check_context(self.of(file_id), what)

    def new_socket(self, file_id: int, kind: int) -> int:
        """A new unix socket with the context of this one."""
        with self.giving(file_id):
            return new_socket(socket.AF_UNIX, kind)

    @contextmanager
    def giving(self, file_id: int) -> Iterator[None]:
        """Sockets that are made inside get the context of this one."""
        if not self.of(file_id):
            yield
            return
        lsm.set_socket_context(self.of(file_id))
        try:
            yield
        finally:
            lsm.set_socket_context("")

    @contextmanager
    def giving_in(self, stub: Stub, tape: Tape, file_id: int) -> Iterator[None]:
        """The same for what is put on a stub's tape inside."""
        if not self.of(file_id):
            yield
            return
        proc = give_proc(stub, self._ctx)
        set_attribute(tape, proc, "sockcreate", self.of(file_id))
        yield
        set_attribute(tape, proc, "sockcreate", "")
        tape.call("close", proc)

    def verify(self, file_id: int, fd: int) -> None:
        """Say so if a socket could not be given its context: one that was passed in, or the other end of a pair."""
        wanted = self.of(file_id)
        if wanted and (got := _of(fd)) != wanted:
            log.warn(f"unix socket (file {file_id}): its context is {got}, it was {wanted}")
