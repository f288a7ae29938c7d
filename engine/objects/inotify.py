"""inotify instances: inotify(7).

Events that wait to be read happen again in the new instance (inotify_events.py) before it gets its watches. These are
added when all else is in place, and deaf at first, so that they don't tell what the end of the restore itself does to
watched files.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.kernel.inotify_queue import IN_IGNORED, InotifyEvent, inotify_queue
from engine.kernel.notify import bytes_of_events, inotify_add_watch, inotify_init, inotify_set_mask, set_next_wd
from engine.kernel.proc_fdinfo import InotifyWatch, fdinfo_inotify
from engine.kernel.sockets import file_of_descriptor
from engine.objects import inotify_check, inotify_events, watched_file
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
    links = ("anon_inode:inotify", "anon_inode:[inotify]")

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        if bytes_of_events(file.copy):
            _refuse_events(file, ctx)
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
        for event in ctx.part(_Events).of.get(file, ()):
            waiting = entry.event.add(wd=event.wd, mask=event.mask)
            if event.cookie:
                waiting.cookie = event.cookie
            if event.name:
                waiting.name = event.name
        return entry

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        if any(not 0 < item.wd <= _MAX_WD for item in _items(entry, ctx)):
            what = f"inotify (file {entry.id}): has a watch descriptor that can't be"
            ctx.problems.add(what, remedy="the image is damaged")
        why = inotify_check.problem(_events_of(entry))
        if why:
            ctx.problems.add(f"inotify (file {entry.id}): {why}", remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = inotify_init()
        set_flags(fd, entry.flags)
        return fd

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        watched = [
            (item, watched_file.open_watched(item.s_dev, item.i_ino, item.f_handle, ctx)) for item in _items(entry, ctx)
        ]
        ctx.on_success(partial(_add_watches, fd, watched, entry, ctx))


class _Events:
    """The events that wait in an instance."""

    def __init__(self, _: DumpContext) -> None:
        self.of: dict[OpenFile, list[InotifyEvent]] = {}


def _refuse_events(file: OpenFile, ctx: DumpContext) -> None:
    """Look at the events that wait, and add to the problems why they can't be carried over, if so."""
    try:
        events = ctx.part(_Events).of[file] = inotify_queue(file.copy)
        why = inotify_check.problem(events)
    except OSError as error:
        why = f"they can't be seen ({error.strerror})"
    if why:
        what = f"{file}: inotify events wait to be read, and can't be carried over: {why}"
        ctx.problems.add(what, file.task.pid, "dump again when they have been read")


class _Watches:
    """What the watches of an instance are on."""

    def __init__(self, _: DumpContext) -> None:
        self.of: dict[OpenFile, list[tuple[InotifyWatch, WatchedFile]]] = {}


class _OldItems(watched_file.OldItems):
    image = "INOTIFY_WD"


def _items(entry: Message, ctx: RestoreContext) -> list[Message]:
    return [*entry.wd, *ctx.part(_OldItems).of(entry)]


def _events_of(entry: Message) -> list[InotifyEvent]:
    return [InotifyEvent(event.wd, event.mask, event.cookie, event.name) for event in entry.event]


def _add_watches(fd: int, watched: list[tuple[Message, int]], entry: Message, ctx: RestoreContext) -> None:
    for _, file in watched:
        ctx.at_end(partial(os.close, file))
    if entry.event:
        inotify_events.Replay(fd, _events_of(entry), f"inotify (file {entry.id})").run()
    for item, file in watched:
        try:
            inotify_add_watch(fd, file_of_descriptor(file), IN_IGNORED, item.wd)
        except OSError as error:
            raise CrError(f"inotify (file {entry.id}): watch {item.wd} can't be added: {error.strerror}") from error
    if watched:
        set_next_wd(fd, min(max(item.wd for item, _ in watched) + 1, _MAX_WD))
    ctx.after_commit(partial(_listen, os.dup(fd), [(item.mask, os.dup(file)) for item, file in watched]))


def _listen(fd: int, watched: list[tuple[int, int]]) -> None:
    """Have the watches tell what they are to tell. The restore can't fail any more."""
    for mask, file in watched:
        try:
            inotify_set_mask(fd, file_of_descriptor(file), mask)
        except OSError as error:
            log.warn(f"an inotify watch stays deaf: {error.strerror}")
        os.close(file)
    os.close(fd)
