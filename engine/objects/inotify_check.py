"""Which events that wait in an inotify instance can be made to happen again in a new one (inotify_events.py)."""

from __future__ import annotations

from engine.kernel import inotify_queue as kernel
from engine.kernel.inotify_queue import InotifyEvent

_SIMPLE = (
    kernel.IN_ACCESS,
    kernel.IN_ATTRIB,
    kernel.IN_CLOSE_NOWRITE,
    kernel.IN_CLOSE_WRITE,
    kernel.IN_CREATE,
    kernel.IN_DELETE,
    kernel.IN_MODIFY,
    kernel.IN_MOVE_SELF,
    kernel.IN_OPEN,
)
_WITHOUT_ISDIR = kernel.IN_MOVE_SELF, kernel.IN_DELETE_SELF, kernel.IN_IGNORED
"""Events of a directory itself that do not say so."""
_NAMED = kernel.IN_CREATE, kernel.IN_DELETE, kernel.IN_MOVED_FROM, kernel.IN_MOVED_TO
"""Events of directories that always have a name."""
_NAME_MAX = 255


def problem(events: list[InotifyEvent]) -> str | None:
    """Why events can't be made to happen again, None if they can. They may come from an image."""
    known = directories(events)
    arrivals = {event.rename: number for number, event in enumerate(events) if event.kind == kernel.IN_MOVED_TO}
    for number, event in enumerate(events):
        following = events[number + 1] if number + 1 < len(events) else None
        arrives_later = arrivals.get(event.rename, -1) > number
        why = _why_not(event, following, arrives_later, event.wd in known)
        if why:
            return f"event {event.mask:#x} of watch {event.wd} {why}"
    return None


def _why_not(
    event: InotifyEvent, following: InotifyEvent | None, arrives_later: bool, is_directory: bool
) -> str | None:
    kind = event.kind
    bad_name = b"/" in event.name or b"\0" in event.name or event.name in (b".", b"..") or len(event.name) > _NAME_MAX
    if (event.wd < 1 and kind != kernel.IN_Q_OVERFLOW) or bad_name or (kind in _NAMED and not event.name):
        return "is no possible one"
    if kind == kernel.IN_DELETE_SELF and (following is None or following[:2] != (event.wd, kernel.IN_IGNORED)):
        return "comes without the end of its watch"
    if kind == kernel.IN_MOVED_FROM and arrives_later and not (following and is_rename(event, following)):
        return "is a rename whose halves are apart"
    if kind not in (
        *_SIMPLE,
        kernel.IN_DELETE_SELF,
        kernel.IN_IGNORED,
        kernel.IN_MOVED_FROM,
        kernel.IN_MOVED_TO,
        kernel.IN_Q_OVERFLOW,
    ):
        return "is of a kind that can't be made again"
    return "does not fit to the others of its watch" if _contradicts(event, kind, is_directory) else None


def _contradicts(event: InotifyEvent, kind: int, is_directory: bool) -> bool:
    if kind == kernel.IN_CLOSE_WRITE and event.mask & kernel.IN_ISDIR:
        return True
    own = not event.name and kind not in _WITHOUT_ISDIR and kind != kernel.IN_Q_OVERFLOW
    return own and is_directory != bool(event.mask & kernel.IN_ISDIR)


def is_rename(first: InotifyEvent, second: InotifyEvent) -> bool:
    """Whether two events are the halves of one."""
    return (first.kind, second.kind) == (kernel.IN_MOVED_FROM, kernel.IN_MOVED_TO) and first.rename == second.rename


def directories(events: list[InotifyEvent]) -> set[int]:
    """The watch descriptors of directories: their events have names, or say that the file itself is one."""
    return {event.wd for event in events if event.name or event.mask & kernel.IN_ISDIR}
