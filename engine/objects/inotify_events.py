"""Events that wait in an inotify instance, and how they get into a new one.

The kernel has no call for that: they have to happen again. They do so to files of a file system that nobody sees, of
which each is watched for as long under the watch descriptor of the events to be. Its watch is deaf but for the one
system call that makes the event.

Taking these watches away again would leave an IN_IGNORED of each at the end of the queue. A full queue, though, takes
no event but the one that tells of the overflow, and that but once (fs/notify/notification.c, fsnotify_insert_event). So
the queue is filled up with events of no interest before the first event, to a place where it has overflowed, and only
as many of them are read again as room is needed. The rest is read when all these watches are gone, and the queue begins
with the first event. Which events can be had again at all: inotify_check.py.

What can't be had: the cookie of a rename, which is a new one, the same for both its halves.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.errors import CrError
from engine.kernel.detached import detached_tmpfs
from engine.kernel.file_times import set_one_time
from engine.kernel.inotify_queue import (
    HEADER_SIZE,
    IN_ACCESS,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_OPEN,
    IN_Q_OVERFLOW,
    InotifyEvent,
)
from engine.kernel.notify import bytes_of_events, inotify_add_watch, inotify_rm_watch, inotify_set_mask
from engine.kernel.sockets import file_of_descriptor
from engine.objects.inotify_check import directories, is_rename

_LIMIT = "/proc/sys/fs/inotify/max_queued_events"
_AWAY = "away"


class _Object(NamedTuple):
    """What stands for a watched file. fd: O_PATH as a rule; name: in the file system that nobody sees."""

    fd: int
    name: str


class Replay:
    """Events happening again in a new instance, which has no watch yet. fd: the instance; what: its name in errors."""

    def __init__(self, fd: int, events: list[InotifyEvent], what: str) -> None:
        self._what = what
        self._fd = fd
        self._events = events
        self._directories = directories(events)
        self._objects: dict[int, _Object] = {}
        self._made = 0
        self._root = detached_tmpfs()
        self._away = self._new(_AWAY, is_directory=True)
        self._filler = [self._watch_filler(number) for number in range(2)]
        self._filled = 0

    def run(self) -> None:
        """Fill the queue. Raises CrError or OSError."""
        try:
            self._fill_queue()
            if bytes_of_events(self._fd) != sum(event.size for event in self._events):
                raise CrError(f"{self._what}: the events that waited did not all happen again")
        finally:
            for file in (*self._objects.values(), *self._filler, self._away):
                os.close(file.fd)
            os.close(self._root)

    def _fill_queue(self) -> None:
        with open(_LIMIT) as setting:
            limit = int(setting.read())
        at = next((n for n, event in enumerate(self._events) if event.mask & IN_Q_OVERFLOW), None)
        before, after = self._events[: at or 0], self._events[0 if at is None else at + 1 :]
        spare = limit - len(before)
        room = len(after) + 1 if after else 0
        if room > spare:
            raise CrError(f"{self._what}: {len(self._events)} events waited, which is too many (raise {_LIMIT})")
        self._fill(spare)
        self._happen(before)
        self._fill(1)
        self._take(room)
        self._happen(after)
        for wd in list(self._objects):
            self._end(wd)
        for file in self._filler:
            inotify_rm_watch(self._fd, int(file.name))
        self._take(spare - room + (at is None))

    # Events of no interest

    def _watch_filler(self, number: int) -> _Object:
        """A file whose every change is an event. Its name is the watch descriptor."""
        used = {event.wd for event in self._events}
        wd = next(wd for wd in range(1 + number * (len(used) + 1), 1 << 30) if wd not in used)
        name = str(wd)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._root)
        inotify_add_watch(self._fd, file_of_descriptor(fd), IN_ATTRIB, wd)
        return _Object(fd, name)

    def _fill(self, count: int) -> None:
        """Each event is another one than the one before it, or the kernel would drop it."""
        for _ in range(count):
            self._filled += 1
            os.utime(self._filler[self._filled % 2].fd)

    def _take(self, count: int) -> None:
        left = count * HEADER_SIZE
        while left:
            left -= len(os.read(self._fd, min(left, 1 << 16)))

    # Events

    def _happen(self, events: list[InotifyEvent]) -> None:
        skip = False
        for number, event in enumerate(events):
            following = events[number + 1] if number + 1 < len(events) else None
            kind = event.kind
            if skip:
                skip = False
            elif kind == IN_DELETE_SELF:
                self._delete(event.wd)
                skip = True
            elif kind == IN_IGNORED:
                self._object(event.wd)
                self._end(event.wd)
            elif kind == IN_MOVED_FROM and following is not None and is_rename(event, following):
                self._rename(event, event, following)
                skip = True
            elif kind == IN_MOVED_FROM:
                self._rename(event, event, None)
            elif kind == IN_MOVED_TO:
                self._rename(event, None, event)
            elif event.name:
                self._happen_to_child(kind, event)
            else:
                self._happen_to_object(kind, event.wd)

    def _object(self, wd: int) -> _Object:
        """What stands for the file of a watch, made when it is first needed."""
        if wd not in self._objects:
            self._made += 1
            made = self._objects[wd] = self._new(f"object {self._made}", is_directory=wd in self._directories)
            inotify_add_watch(self._fd, file_of_descriptor(made.fd), IN_IGNORED, wd)
        return self._objects[wd]

    def _new(self, name: str, *, is_directory: bool) -> _Object:
        _make(name.encode(), self._root, is_directory)
        return _Object(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=self._root), name)

    def _hear(self, wd: int, mask: int) -> None:
        """Have a watch tell these events. IN_IGNORED alone makes it deaf: a mask must not be empty."""
        inotify_set_mask(self._fd, file_of_descriptor(self._object(wd).fd), mask or IN_IGNORED)

    def _end(self, wd: int) -> None:
        """Take a watch away, which is an event as well unless the queue has overflowed."""
        os.close(self._objects.pop(wd).fd)
        inotify_rm_watch(self._fd, wd)

    def _delete(self, wd: int) -> None:
        """The file goes, and with it its watch."""
        file = self._object(wd)
        self._hear(wd, IN_DELETE_SELF)
        _remove(file.name.encode(), self._root, wd in self._directories)
        os.close(self._objects.pop(wd).fd)

    def _rename(self, either: InotifyEvent, source: InotifyEvent | None, target: InotifyEvent | None) -> None:
        """None for a directory that is not watched."""
        is_directory = bool(either.mask & IN_ISDIR)
        old = (source.name, self._object(source.wd).fd) if source else (_AWAY.encode(), self._away.fd)
        new = (target.name, self._object(target.wd).fd) if target else (_AWAY.encode(), self._away.fd)
        _make(*old, is_directory)
        masks: dict[int, int] = {}
        for event in (source, target):
            if event is not None:
                masks[event.wd] = masks.get(event.wd, 0) | event.kind
        for wd, mask in masks.items():
            self._hear(wd, mask)
        os.rename(old[0], new[0], src_dir_fd=old[1], dst_dir_fd=new[1])
        for wd in masks:
            self._hear(wd, 0)
        _remove(*new, is_directory)

    def _happen_to_child(self, kind: int, event: InotifyEvent) -> None:
        place, is_directory = self._object(event.wd).fd, bool(event.mask & IN_ISDIR)
        if kind != IN_CREATE:
            _make(event.name, place, is_directory)
        if kind in (IN_CREATE, IN_DELETE):
            self._hear(event.wd, kind)
            (_make if kind == IN_CREATE else _remove)(event.name, place, is_directory)
            self._hear(event.wd, 0)
        else:
            child = os.open(event.name, os.O_PATH | os.O_CLOEXEC, dir_fd=place)
            self._act(kind, event.wd, child)
            os.close(child)
        if kind != IN_DELETE:
            _remove(event.name, place, is_directory)

    def _happen_to_object(self, kind: int, wd: int) -> None:
        file = self._object(wd)
        if kind != IN_MOVE_SELF:
            self._act(kind, wd, file.fd)
            return
        self._made += 1
        self._objects[wd] = file._replace(name=f"object {self._made}")
        self._hear(wd, kind)
        os.rename(file.name, self._objects[wd].name, src_dir_fd=self._root, dst_dir_fd=self._root)
        self._hear(wd, 0)

    def _act(self, kind: int, wd: int, fd: int) -> None:
        """What happens to a file without its name playing a part. fd: O_PATH."""
        name = file_of_descriptor(fd)
        opened = -1
        if kind in (IN_CLOSE_NOWRITE, IN_CLOSE_WRITE):
            opened = os.open(name, (os.O_WRONLY if kind == IN_CLOSE_WRITE else os.O_RDONLY) | os.O_CLOEXEC)
        self._hear(wd, kind)
        if kind == IN_OPEN:
            opened = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        elif kind == IN_ATTRIB:
            os.utime(name)
        elif kind in (IN_ACCESS, IN_MODIFY):
            set_one_time(name, access=kind == IN_ACCESS)
        elif opened >= 0:
            os.close(opened)
            opened = -1
        self._hear(wd, 0)
        if opened >= 0:
            os.close(opened)


def _make(name: bytes, place: int, is_directory: bool) -> None:
    if is_directory:
        os.mkdir(name, 0o700, dir_fd=place)
    else:
        os.mknod(name, 0o600, dir_fd=place)


def _remove(name: bytes, place: int, is_directory: bool) -> None:
    (os.rmdir if is_directory else os.unlink)(name, dir_fd=place)
