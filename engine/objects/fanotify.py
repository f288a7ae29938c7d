"""fanotify groups: fanotify(7). As with inotify, events can't be put back, and ours are taken out.

A mark has one mask of events and one of events that are ignored; fanotify_mark(2) sets one at a time.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel import notify
from engine.kernel.proc_fdinfo import FanotifyMark, fdinfo_fanotify
from engine.kernel.sockets import file_of_descriptor
from engine.objects import watched_file
from engine.objects.base import FileKind
from engine.objects.paths import open_name
from engine.objects.status_flags import set_flags
from engine.objects.watched_file import Mounts

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.objects.watched_file import WatchedFile
    from engine.restore_context import RestoreContext

Message = Any

_INODE, _MOUNT = 1, 2


class Fanotify(FileKind):
    """FANOTIFY."""

    type = 12
    field = "ffy"
    links = ("anon_inode:[fanotify]",)

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        waiting = notify.bytes_of_events(file.copy)
        if waiting:
            what = f"{file}: {waiting} bytes of fanotify events wait to be read, and can't be carried over"
            ctx.problems.add(what, file.task.pid, "dump again when they have been read")
        targets = ctx.part(_Targets).of[file] = []
        for mark in fdinfo_fanotify(file.fdinfo).marks:
            target = _target(file, mark, ctx)
            if target is not None:
                targets.append(target)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        group = fdinfo_fanotify(file.fdinfo)
        entry = message("fanotify_file_entry")(
            id=file.id, flags=file.flags, faflags=group.flags, evflags=group.event_flags
        )
        for mark, inode, mount_point in ctx.part(_Targets).of[file]:
            item = entry.mark.add(
                id=file.id,
                type=_MOUNT if inode is None else _INODE,
                mflags=mark.mflags,
                mask=mark.mask,
                ignored_mask=mark.ignored_mask,
                s_dev=mark.sdev or 0,
            )
            if inode is not None:
                item.ie.i_ino = inode.ino
                watched_file.describe(item.ie.f_handle, inode)
            else:
                item.me.mnt_id = mark.mnt_id
                set_text(item.me, "path", mount_point.lstrip("/") or "/")
        return entry

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        for item in _items(entry, ctx):
            if not item.HasField("ie" if item.type == _INODE else "me"):
                what = f"fanotify (file {entry.id}): a mark does not say what it is on"
                ctx.problems.add(what, remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        try:
            fd = notify.fanotify_init(entry.faflags, entry.evflags)
        except OSError as error:
            raise CrError(f"fanotify (file {entry.id}), flags {entry.faflags:#x}: {error.strerror}") from error
        set_flags(fd, entry.flags)
        return fd

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        marked = [(item, _open_target(item, ctx)) for item in _items(entry, ctx)]
        ctx.on_success(partial(_add_marks, fd, marked, entry, ctx))


# Dump


class _Target(NamedTuple):
    """What a mark is on: an inode, or a mount by its mount point."""

    mark: FanotifyMark
    inode: WatchedFile | None
    mount_point: str


class _Targets:
    """What the marks of a group are on."""

    def __init__(self, _: DumpContext) -> None:
        self.of: dict[OpenFile, list[_Target]] = {}


def _target(file: OpenFile, mark: FanotifyMark, ctx: DumpContext) -> _Target | None:
    """None for what can't be restored; that is added to the problems."""
    if mark.ino is not None and mark.sdev is not None:
        inode = watched_file.find(file, mark.ino, mark.sdev, mark.handle, ctx)
        return None if inode is None else _Target(mark, inode, "")
    if mark.mnt_id is None:
        kind = "a mount namespace" if mark.mnt_ns is not None else "a whole file system"
        ctx.problems.add(f"{file}: has a mark on {kind}, which images can't hold", file.task.pid, "remove the mark")
        return None
    for mount in ctx.part(Mounts).mounts:
        if mount.mnt_id == mark.mnt_id:
            return _Target(mark, None, mount.mountpoint)
    what = f"{file}: has a mark on mount {mark.mnt_id}, which is not in this mount namespace"
    ctx.problems.add(what, file.task.pid, "remove the mark")
    return None


# Restore


class _OldItems(watched_file.OldItems):
    image = "FANOTIFY_MARK"


def _items(entry: Message, ctx: RestoreContext) -> list[Message]:
    return [*entry.mark, *ctx.part(_OldItems).of(entry)]


def _open_target(item: Message, ctx: RestoreContext) -> int:
    """A descriptor (O_PATH) of what a mark was on."""
    if item.type == _INODE:
        return watched_file.open_watched(item.s_dev, item.ie.i_ino, item.ie.f_handle, ctx)
    path = "/" + get_text(item.me.path).lstrip("/")
    try:
        return open_name(path, os.O_PATH)
    except OSError as error:
        raise CrError(f"{path}, a mount that was watched: {error.strerror} (mount it again)") from error


def _add_marks(fd: int, marked: list[tuple[Message, int]], entry: Message, ctx: RestoreContext) -> None:
    for item, file in marked:
        name = file_of_descriptor(file)
        flags = notify.FAN_MARK_ADD | (notify.FAN_MARK_MOUNT if item.type == _MOUNT else 0)
        ignore = item.mflags & notify.FAN_MARK_IGNORE or notify.FAN_MARK_IGNORED_MASK
        try:
            if item.mask:
                notify.fanotify_mark(fd, flags | item.mflags & notify.FAN_MARK_EVICTABLE, item.mask, name)
            if item.ignored_mask:
                survives = item.mflags & notify.FAN_MARK_IGNORED_SURV_MODIFY
                notify.fanotify_mark(fd, flags | ignore | survives, item.ignored_mask, name)
        except OSError as error:
            raise CrError(f"fanotify (file {entry.id}): a mark can't be made: {error.strerror}") from error
        finally:
            os.close(file)
    ctx.after_commit(partial(_drop_events, os.dup(fd)))


def _drop_events(fd: int) -> None:
    notify.drop_fanotify_events(fd)
    os.close(fd)
