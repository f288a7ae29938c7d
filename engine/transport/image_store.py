"""What an image cache holds: snapshots, each the images of one dump, in memory and within a limit.

A snapshot is written by one dump. It is whole when the dump has ended its tree, or let it run on as it was asked to,
and has said so. Before that there is a moment in which nobody but the dump knows whether the tree still runs. A dump
that vanishes then leaves a snapshot in doubt: it is kept, since it may be all that is left of the tree, but it is not
restored before somebody says that it may be (--unconfirmed), since the tree may run on.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from engine import log
from engine.errors import CrError, text_of
from engine.images.runs import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WRITTEN, STORED, WHOLE, IN_DOUBT, LOST = "being written", "stored", "whole", "in doubt", "lost"
"""States of a snapshot. stored: all images are there, the dump goes on."""
_ENDED = (WHOLE, IN_DOUBT, LOST)
_MOST_SNAPSHOTS = 1024
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_MIB = 1 << 20
_TELL_SECONDS = 1.0


class Image:
    """One image. fd: a memfd; size: bytes so far."""

    def __init__(self, name: str, snapshot: Snapshot) -> None:
        self.name = name
        self.size = 0
        self.is_complete = False
        self._snapshot = snapshot
        self._store = snapshot.store
        self._store.reserve(PAGE)
        self._reserved = PAGE
        try:
            self.fd = os.memfd_create(f"{snapshot.id}/{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            self._store.reserve(-PAGE)
            raise CrError(f"{name} can't be held: {text_of(error)}") from error

    def append(self, content: memoryview) -> None:
        """Raises CrError: the limit is reached, or the memory."""
        needed = -(-(self.size + len(content)) // PAGE) * PAGE + PAGE - self._reserved
        self._store.reserve(needed)
        self._reserved += needed
        self._snapshot.progress = time.monotonic()
        try:
            while content:
                done = os.write(self.fd, content)
                self.size, content = self.size + done, content[done:]
        except OSError as error:
            raise CrError(f"{self.name} can't be held: {text_of(error)}") from error

    def complete(self, size: int) -> None:
        """All of it has been written: so many bytes. Nobody can change it any more."""
        if size != self.size:
            raise CrError(f"{self.name} has {self.size} bytes, but the dump says {size}")
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        with self._store.changed:
            self.is_complete = True
            self._store.changed.notify_all()

    def open(self) -> int:
        """A descriptor for reading, with an offset of its own."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def drop(self) -> None:
        """Give its memory back."""
        os.close(self.fd)
        self._store.reserve(-self._reserved)


class Snapshot:
    """The images of one dump, by file name.

    parent    the id of the snapshot that it builds on, or ""
    progress  when something of it came last
    why       what has become of it, when it is lost
    """

    def __init__(self, store: Store, id: str, parent: str) -> None:
        self.store = store
        self.id = id
        self.parent = parent
        self.state = WRITTEN
        self.images: dict[str, Image] = {}
        self.progress = time.monotonic()
        self.why = ""

    @property
    def size(self) -> int:
        return sum(image.size for image in self.images.values())

    def open(self, name: str) -> Image:
        """A new image. A complete one that has this name already is replaced. CrError: it is still being written."""
        with self.store.changed:
            old = self.images.get(name)
            if old and not old.is_complete:
                raise CrError(f"{name} of snapshot {self.id} is begun again while it is being written")
        self.drop(name)
        image = Image(name, self)
        with self.store.changed:
            self.images[name] = image
        return image

    def drop(self, name: str) -> None:
        with self.store.changed:
            image = self.images.pop(name, None)
        if image:
            image.drop()


class Store:
    """All snapshots of a cache, for several threads.

    limit    bytes that all images together may take
    patience seconds that a reader waits for a snapshot of which nothing comes any more
    changed  guards all that is not one writer's alone
    """

    def __init__(self, limit: int, patience: float) -> None:
        self.limit = limit
        self.patience = patience
        self.changed = threading.Condition()
        self.used = 0
        self.peak = 0
        self._snapshots: dict[str, Snapshot] = {}

    def reserve(self, size: int) -> None:
        """Count bytes that are going to be used, or given back. CrError: they are too many."""
        with self.changed:
            if size > 0 and self.used + size > self.limit:
                used, limit = self.used / _MIB, self.limit / _MIB
                what = f"the image cache holds {used:.1f} of {limit:.1f} MiB, and has no room for {size} bytes more"
                raise CrError(f"{what} (let it have more by --max-memory)")
            self.used += size
            self.peak = max(self.peak, self.used)

    def begin(self, id: str, parent: str) -> Snapshot:
        """A new snapshot. CrError: the id is taken, or the parent is not there."""
        with self.changed:
            if id in self._snapshots:
                state = self._snapshots[id].state
                raise CrError(f"the image cache has a snapshot {id} already, which is {state} (choose another id)")
            if len(self._snapshots) >= _MOST_SNAPSHOTS:
                raise CrError(f"the image cache has {_MOST_SNAPSHOTS} snapshots, which is all it takes")
            if parent:
                self._whole(parent)
            snapshot = self._snapshots[id] = Snapshot(self, id, parent)
            self.changed.notify_all()
        log.info(f"Snapshot {id}, which builds on snapshot {parent}, begins" if parent else f"Snapshot {id} begins")
        return snapshot

    def whole(self, id: str) -> Snapshot:
        """One that is whole, at once. CrError: there is none."""
        with self.changed:
            return self._whole(id)

    def _whole(self, id: str) -> Snapshot:
        snapshot = self._snapshots.get(id)
        if not snapshot or snapshot.state != WHOLE:
            state = f"snapshot {id} is {snapshot.state}" if snapshot else f"there is no snapshot {id}"
            raise CrError(f"{state}: the image cache has none such that a dump could build on")
        return snapshot

    def set_state(self, snapshot: Snapshot, state: str) -> None:
        """stored or whole."""
        with self.changed:
            incomplete = [image.name for image in snapshot.images.values() if not image.is_complete]
            if incomplete:
                raise CrError(f"snapshot {snapshot.id} can't be {state}, for {incomplete[0]} is not complete")
            snapshot.state = state
            snapshot.progress = time.monotonic()
            self.changed.notify_all()
        log.info(f"Snapshot {snapshot.id} is {state}: {len(snapshot.images)} images, {self._memory(snapshot)}")

    def end(self, snapshot: Snapshot, why: str, is_withdrawn: bool = False) -> None:
        """The dump has gone, or withdraws what it has sent. why: what is told whoever waits for it."""
        with self.changed:
            if snapshot.state in _ENDED:
                return
            snapshot.state = IN_DOUBT if snapshot.state == STORED and not is_withdrawn else LOST
            snapshot.why = why
            if snapshot.state == LOST:
                del self._snapshots[snapshot.id]
            self.changed.notify_all()
        if snapshot.state == LOST:
            for name in list(snapshot.images):
                snapshot.drop(name)
        log.warn(f"Snapshot {snapshot.id} is {snapshot.state}: {why}; {self._memory(snapshot)}")

    def accept(self, id: str) -> None:
        """Somebody says that a snapshot in doubt may be restored."""
        with self.changed:
            snapshot = self._snapshots.get(id)
            if snapshot and snapshot.state == IN_DOUBT:
                log.warn(f"Snapshot {id} was in doubt and counts as whole from now on, as a restore says")
                snapshot.state = WHOLE
                self.changed.notify_all()

    @property
    def is_worth_keeping(self) -> bool:
        """Whether there is anything that may be restored, now or when somebody says so."""
        with self.changed:
            return any(snapshot.state in (WHOLE, IN_DOUBT) for snapshot in self._snapshots.values())

    def await_image(self, id: str, name: str, tell: Callable[[], None]) -> tuple[int, int] | None:
        """A complete image, as soon as it is there: a descriptor, and its size. None: the snapshot has all its images,
        and none of that name.

        tell: called again and again while this waits
        """

        def look(snapshot: Snapshot) -> tuple[int, int] | bool:
            image = snapshot.images.get(name)
            if image and image.is_complete:
                return image.open(), image.size
            return snapshot.state != WRITTEN

        found = self._await(id, name, look, tell)
        return found if isinstance(found, tuple) else None

    def await_whole(self, id: str, tell: Callable[[], None]) -> None:
        """Until a snapshot is whole."""
        self._await(id, "all of it", lambda found: found.state == WHOLE and found, tell)

    def await_begun(self, id: str, tell: Callable[[], None]) -> Snapshot:
        """A snapshot, whatever its state, that a dump has begun."""
        return self._await(id, "it", lambda found: found, tell)

    def _await(self, id: str, what: str, look: Callable[[Snapshot], T], tell: Callable[[], None]) -> T:
        """What `look` finds, as soon as it does. CrError: there will be nothing, or nothing has come for too long."""
        snapshot = None
        since = time.monotonic()
        while True:
            with self.changed:
                snapshot = self._snapshots.get(id, snapshot)
                _check_readable(snapshot)
                if snapshot and (found := look(snapshot)):
                    return found
                progress = max(since, snapshot.progress) if snapshot else since
                if time.monotonic() - progress >= self.patience:
                    state = f"snapshot {id} is {snapshot.state}" if snapshot else f"there is no snapshot {id}"
                    where = f"{state}, and {what} has not come in {self.patience:g} seconds"
                    raise CrError(f"{where} in which nothing came (wait longer by the cache's --remote-timeout)")
                self.changed.wait(min(_TELL_SECONDS, self.patience))
            tell()

    def _memory(self, snapshot: Snapshot) -> str:
        of = f"{snapshot.size / _MIB:.1f} MiB" if snapshot.state != LOST else "given back"
        return f"{of}; {self.used / _MIB:.1f} of {self.limit / _MIB:.1f} MiB in use"


def _check_readable(snapshot: Snapshot | None) -> None:
    if snapshot and snapshot.state == LOST:
        raise CrError(f"snapshot {snapshot.id} is lost: {snapshot.why}")
    if snapshot and snapshot.state == IN_DOUBT:
        remedy = "restore it with --unconfirmed if the tree that it was made of has gone"
        raise CrError(f"snapshot {snapshot.id} is in doubt: {snapshot.why} ({remedy})")
