"""Descriptors of processes: pidfd_open(2).

A live process is named by its pid. A dead one that has been reaped has none any more: all that is left is that two
descriptors may be of the same process, and these have one inode number. So a process is made for each such number,
opened as often as needed, and reaped.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.proc_fdinfo import fdinfo_pidfd
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_DEAD = -1
_PIDFD_THREAD = os.O_EXCL
_INO_MASK = 0xFFFFFFFF


class Pidfd(FileKind):
    """PIDFD."""

    type = 20
    field = "pidfd"
    links = ("anon_inode:[pidfd]", "pidfd:[pidfd]")

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        pid = fdinfo_pidfd(file.fdinfo).pid
        if file.fdinfo.flags & _PIDFD_THREAD:
            what = f"{file}: is of a thread (PIDFD_THREAD), which can't be restored"
            ctx.problems.add(what, file.task.pid, "open the process instead, or close it before the dump")
        elif pid != _DEAD and all(task.pid != pid for task in ctx.tasks):
            what = f"{file}: is of process {pid or 'of another pid namespace'}, which is not in the tree"
            ctx.problems.add(what, file.task.pid, "dump a tree with that process, or close it before the dump")

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        return message("pidfd_entry")(
            id=file.id, ino=file.stat.st_ino & _INO_MASK, flags=file.flags, nspid=fdinfo_pidfd(file.fdinfo).pid
        )

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        if entry.nspid != _DEAD and all(task.pid != entry.nspid for task in ctx.tasks):
            what = f"pidfd (file {entry.id}): is of process {entry.nspid}, which is not in the tree"
            ctx.problems.add(what, remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = ctx.part(_DeadProcesses).take(entry.ino) if entry.nspid == _DEAD else os.pidfd_open(entry.nspid)
        set_flags(fd, entry.flags)
        return fd


class _DeadProcesses:
    """Descriptors of processes that have been and gone, by the inode number in the images."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ready: dict[int, list[int]] = {}
        self._wanted: dict[int, int] = {}
        for entry in ctx.entries.values():
            if entry.type == Pidfd.type and entry.pidfd.nspid == _DEAD:
                ino = entry.pidfd.ino
                self._wanted[ino] = self._wanted.get(ino, 0) + 1
        ctx.at_end(self._close)

    def take(self, ino: int) -> int:
        if ino not in self._ready:
            self._ready[ino] = _open_dead_process(self._wanted[ino])
        return self._ready[ino].pop()

    def _close(self) -> None:
        for fds in self._ready.values():
            for fd in fds:
                os.close(fd)


def _open_dead_process(count: int) -> list[int]:
    """So many descriptors of one process, which is dead and reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        return [os.pidfd_open(pid) for _ in range(count)]
    except OSError as error:
        raise CrError(f"the {count} pidfds of a dead process can't be opened: {error.strerror}") from error
    finally:
        os.waitpid(pid, 0)
