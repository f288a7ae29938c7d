"""Descriptors that read signals: signalfd(2).

The signals they give are those of whoever reads. Nothing but the mask is their own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.kernel.libc import NR, syscall
from engine.kernel.proc_fdinfo import fdinfo_signalfd
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_SIGSET_SIZE = 8
_SFD_CLOEXEC = os.O_CLOEXEC


class Signalfd(FileKind):
    """SIGNALFD."""

    type = 9
    field = "sgfd"
    links = ("anon_inode:[signalfd]",)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        mask = fdinfo_signalfd(file.fdinfo)
        return message("signalfd_entry")(id=file.id, flags=file.flags, sigmask=mask)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        mask = entry.sigmask.to_bytes(_SIGSET_SIZE, "little")
        fd = syscall(NR["signalfd4"], -1, mask, _SIGSET_SIZE, _SFD_CLOEXEC)
        set_flags(fd, entry.flags)
        return fd
