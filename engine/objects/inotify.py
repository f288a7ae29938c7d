"""inotify instances: inotify(7).

Events that wait to be read can't be put back into a new instance, so there must be none. Watches are added when all
else is in place, and what the end of the restore itself has done to watched files is taken out of the queue again.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.notify import bytes_of_events, drop_inotify_events, inotify_add_watch, inotify_init, set_next_wd
from engine.kernel.proc_fdinfo import InotifyWatch, fdinfo_inotify
from engine.kernel.sockets import file_of_descriptor
from engine.objects import watched_file
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.objects.watched_file import WatchedFile
    from engine.restore_context import RestoreContext

Message = Any

_MAX_WD = (1 << 31) - 1


class Inotify(FileKind):
    """INOTIFY."""

    type = 8
    field = "ify"

    def recognise(self, file: OpenFile) -> bool:
        return file.link in ("anon_inode:inotify", "anon_inode:[inotify]")

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        waiting = bytes_of_events(file.copy)
        if waiting:
            what = f"{file}: {waiting} bytes of inotify events wait to be read, and can't be carried over"
            ctx.problems.add(what, file.task.pid, "dump again when they have been read")
        watches = ctx.part(_Watches).of[file] = []
        for watch in fdinfo_inotify(file.fdinfo):
            watched = watched_file.find(file, watch.ino, watch.sdev, watch.handle, ctx)
            if watched is not None:
                watches.append((watch, watched))

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        entry = message("inotify_file_entry")(id=file.id, flags=file.flags)
        for watch, watched in ctx.part(_Watches).of[file]:
            item = entry.wd.add(
                id=file.id, i_ino=watch.ino, mask=watch.mask, ignored_mask=0, s_dev=watch.sdev, wd=watch.wd
            )
            watched_file.describe(item.f_handle, watched)
        return entry

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        if any(not 0 < item.wd <= _MAX_WD for item in _items(entry, ctx)):
            what = f"inotify (file {entry.id}): has a watch descriptor that can't be"
            ctx.problems.add(what, remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = inotify_init()
        set_flags(fd, entry.flags)
        return fd

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        watched = [
            (item, watched_file.open_watched(item.s_dev, item.i_ino, item.f_handle, ctx)) for item in _items(entry, ctx)
        ]
        ctx.on_success(partial(_add_watches, fd, watched, entry, ctx))


class _Watches:
    """What the watches of an instance are on."""

    def __init__(self, _: DumpContext) -> None:
        self.of: dict[OpenFile, list[tuple[InotifyWatch, WatchedFile]]] = {}


class _OldItems:
    """Watches in old images, which have them in a file of their own."""

    def __init__(self, ctx: RestoreContext) -> None:
        self.by_instance: dict[int, list[Message]] = {}
        for item in ctx.images.read("INOTIFY_WD"):
            self.by_instance.setdefault(item.id, []).append(item)


def _items(entry: Message, ctx: RestoreContext) -> list[Message]:
    return [*entry.wd, *ctx.part(_OldItems).by_instance.get(entry.id, ())]


def _add_watches(fd: int, watched: list[tuple[Message, int]], entry: Message, ctx: RestoreContext) -> None:
    for item, file in watched:
        try:
            inotify_add_watch(fd, file_of_descriptor(file), item.mask, item.wd)
        except OSError as error:
            raise CrError(f"inotify (file {entry.id}): watch {item.wd} can't be added: {error.strerror}") from error
        finally:
            os.close(file)
    if watched:
        set_next_wd(fd, min(max(item.wd for item, _ in watched) + 1, _MAX_WD))
    ctx.after_commit(partial(_drop_events, os.dup(fd)))


def _drop_events(fd: int) -> None:
    drop_inotify_events(fd)
    os.close(fd)
