"""Event counters: eventfd(2).

A semaphore differs from a counter in what a read takes. The kernel shows that since Linux 6.5; in images it is bit 0
of the flags, where an eventfd, which is always open for reading and writing, has a zero otherwise and where F_SETFL,
by which other readers restore flags, ignores it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine import log
from engine.kernel.proc_fdinfo import fdinfo_eventfd
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_HIGHEST_INITIAL = 0xFFFFFFFF
_HIGHEST = 0xFFFFFFFFFFFFFFFE


class Eventfd(FileKind):
    """EVENTFD."""

    type = 6
    field = "efd"
    links = ("anon_inode:[eventfd]",)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        state = fdinfo_eventfd(file.fdinfo)
        if state.semaphore is None:
            what = "the kernel does not tell semaphores from counters; it will be a counter"
            log.warn(f"task {file.task.pid}: {file}: {what}")
        flags = file.flags | (os.EFD_SEMAPHORE if state.semaphore else 0)
        return message("eventfd_file_entry")(id=file.id, flags=flags, counter=state.counter)

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        if entry.counter > _HIGHEST:
            ctx.problems.add(
                f"eventfd (file {entry.id}): no counter can be {entry.counter}", remedy="the image is damaged"
            )

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        initial = min(entry.counter, _HIGHEST_INITIAL)
        fd = os.eventfd(initial, os.EFD_CLOEXEC | entry.flags & os.EFD_SEMAPHORE)
        if entry.counter > initial:
            os.eventfd_write(fd, entry.counter - initial)
        set_flags(fd, entry.flags)
        return fd
