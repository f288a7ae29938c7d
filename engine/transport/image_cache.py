"""crucible image-cache: the destination's side of a remote dump. Holds images in memory and gives them to a restore.

Proxies come by TCP and are believed nothing. A restore comes by a unix socket and gets descriptors of the images, which
are memory files that nobody can change any more.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from engine import daemon, log
from engine.errors import CrError
from engine.transport import remote_endpoints
from engine.transport.frames import (
    SAID_BY_DUMPS,
    SAID_BY_RESTORES,
    Frame,
    Garbage,
    ImageLink,
    Op,
    check_id,
    check_image,
    size_body,
)
from engine.transport.image_store import STORED, WHOLE, WRITTEN, Image, Snapshot, Store
from engine.transport.sessions import Sessions

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from engine.options import Options

_PORTION = 1 << 20
_MIB = 1 << 20


def run(opts: Options) -> int:
    """The verb. Returns when a signal or the end of the last proxy has ended it; raises CrError."""
    daemon.raise_descriptor_limit()
    tcp = remote_endpoints.listen_tcp(opts)
    restores, name = remote_endpoints.listen_unix(opts, remote_endpoints.CACHE_SOCKET)
    limit = opts.max_memory or _memory_to_use()
    store = Store(limit, opts.remote_timeout)
    try:
        return daemon.run(opts, "image cache", lambda: partial(_serve, store, tcp, restores))
    finally:
        os.unlink(name)
        log.info(f"The image cache held at most {store.peak / _MIB:.1f} of {limit / _MIB:.1f} MiB")


def _serve(store: Store, tcp: socket.socket, restores: socket.socket) -> int:
    host, port = tcp.getsockname()[:2]
    log.info(f"Proxies are expected at {host} port {port}, up to {store.limit / _MIB:.1f} MiB of images")
    sessions = Sessions(store.patience)
    proxies = _Proxies(store)
    sessions.add_door(tcp, "the image proxy", proxies.serve)
    sessions.add_door(restores, "a restore", lambda link: _Restore(store, link).serve())
    sessions.serve(lambda: proxies.have_gone)
    log.error("the image proxy has gone, and no snapshot is whole")
    sessions.finish()
    return 1


def _memory_to_use() -> int:
    """Three quarters of what is free: a restore needs some to read into."""
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    return free * 1024 // 4 * 3


class _Proxies:
    """The connections of proxies, of which there are several when there are several dumps."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._count = 0
        self._came = False

    @property
    def have_gone(self) -> bool:
        """Whether there were some, there are none left, and they have left nothing."""
        with self._guard:
            return self._came and not self._count and not self._store.is_worth_keeping

    def serve(self, link: ImageLink) -> None:
        with self._guard:
            self._count, self._came = self._count + 1, True
        try:
            _Dump(self._store, link).serve()
        finally:
            with self._guard:
                self._count -= 1


class _Client:
    """One connection. Requests are answered in their order."""

    ops: frozenset[Op]

    def __init__(self, store: Store, link: ImageLink) -> None:
        self._store = store
        self._link = link
        self._answers: dict[Op, Callable[[Frame], None]] = {}

    def idle(self) -> float:
        """Seconds that it may be silent between two frames; 0: for ever, as long as it lives."""
        return 0

    def serve(self) -> None:
        """Until it ends the connection. Raises CrError."""
        self._link.say(Op.OK)
        while (frame := self._link.hear(self.idle(), self.ops)) is not None:
            answer = self._answers.get(frame.op)
            if answer is None:
                raise Garbage(f"{self._link.peer} says {frame.op.name} where that means nothing")
            answer(frame)

    def _names(self, frame: Frame) -> tuple[str, str]:
        """The snapshot and the image of a SIZE or GET."""
        id, name = frame.words
        return _id(id), check_image(name)


class _Dump(_Client):
    """A dump, through its proxy: writes snapshots, one after the other, and reads those that they build on."""

    ops = SAID_BY_DUMPS

    def __init__(self, store: Store, link: ImageLink) -> None:
        super().__init__(store, link)
        self._snapshot: Snapshot | None = None
        self._images: dict[int, Image] = {}
        self._answers = {
            Op.BEGIN: self._begin,
            Op.OPEN: self._open,
            Op.DATA: self._data,
            Op.CLOSE: self._close,
            Op.SYNC: self._sync,
            Op.COMMIT: self._commit,
            Op.DISCARD: self._discard,
            Op.SIZE: self._size,
            Op.GET: self._get,
            Op.PARENT: self._parent,
        }

    def idle(self) -> float:
        return self._link.patience if self._snapshot and self._snapshot.state == WRITTEN else 0

    def serve(self) -> None:
        why = "its dump has gone"
        try:
            super().serve()
        except CrError as error:
            why = error.message
            raise
        finally:
            if self._snapshot:
                self._store.end(self._snapshot, why)

    def _current(self, *states: str) -> Snapshot:
        if self._snapshot is None or self._snapshot.state not in states:
            raise Garbage(f"{self._link.peer} writes, or ends, no snapshot that it has begun")
        return self._snapshot

    def _begin(self, frame: Frame) -> None:
        if self._snapshot is not None:
            raise Garbage(f"{self._link.peer} begins a snapshot within another one")
        id, parent = frame.words
        self._snapshot = self._store.begin(_id(id), _id(parent) if parent else "")
        self._link.say(Op.OK)

    def _open(self, frame: Frame) -> None:
        snapshot = self._current(WRITTEN)
        if frame.number in self._images:
            raise Garbage(f"{self._link.peer} opens image {frame.number}, which is open")
        self._images[frame.number] = snapshot.open(check_image(frame.text))

    def _image(self, frame: Frame) -> Image:
        self._current(WRITTEN)
        if frame.number not in self._images:
            raise Garbage(f"{self._link.peer} writes image {frame.number}, which is not open")
        return self._images[frame.number]

    def _data(self, frame: Frame) -> None:
        self._image(frame).append(frame.body)

    def _close(self, frame: Frame) -> None:
        self._image(frame).complete(frame.size)
        del self._images[frame.number]

    def _sync(self, _: Frame) -> None:
        self._store.set_state(self._current(WRITTEN), STORED)
        self._link.say(Op.OK)

    def _commit(self, _: Frame) -> None:
        self._store.set_state(self._current(STORED), WHOLE)
        self._snapshot = None
        self._link.say(Op.OK)

    def _discard(self, _: Frame) -> None:
        self._store.end(self._current(WRITTEN, STORED), "its dump has failed", is_withdrawn=True)
        self._snapshot = None
        self._images.clear()
        self._link.say(Op.OK)

    def _size(self, frame: Frame) -> None:
        id, name = self._names(frame)
        image = self._store.whole(id).images.get(name)
        self._link.say(Op.FOUND, size_body(image.size)) if image else self._link.say(Op.ABSENT)

    def _parent(self, frame: Frame) -> None:
        self._link.say(Op.NAME, self._store.whole(_id(frame.text)).parent.encode())

    def _get(self, frame: Frame) -> None:
        """The bytes themselves: the dump is on another machine."""
        id, name = self._names(frame)
        image = self._store.whole(id).images.get(name)
        if image is None:
            self._link.say(Op.ABSENT)
            return
        self._link.say(Op.FOUND, size_body(image.size))
        for offset in range(0, image.size, _PORTION):
            self._link.say(Op.DATA, os.pread(image.fd, _PORTION, offset))


class _Restore(_Client):
    """A restore: it reads snapshots, also those that are still being written."""

    ops = SAID_BY_RESTORES

    def __init__(self, store: Store, link: ImageLink) -> None:
        super().__init__(store, link)
        self._answers = {
            Op.SIZE: partial(self._image, False),
            Op.GET: partial(self._image, True),
            Op.PARENT: self._parent,
            Op.AWAIT: self._await,
            Op.ACCEPT: self._accept,
        }

    def _tell(self) -> None:
        """There is something to wait for. Fails when the restore has gone."""
        self._link.say(Op.WAIT)

    def _image(self, is_wanted: bool, frame: Frame) -> None:
        id, name = self._names(frame)
        found = self._store.await_image(id, name, self._tell)
        if found is None:
            self._link.say(Op.ABSENT)
            return
        fd, size = found
        try:
            self._link.hand(fd, size) if is_wanted else self._link.say(Op.FOUND, size_body(size))
        finally:
            os.close(fd)

    def _parent(self, frame: Frame) -> None:
        self._link.say(Op.NAME, self._store.await_begun(_id(frame.text), self._tell).parent.encode())

    def _await(self, frame: Frame) -> None:
        self._store.await_whole(_id(frame.text), self._tell)
        self._link.say(Op.OK)

    def _accept(self, frame: Frame) -> None:
        self._store.accept(_id(frame.text))
        self._link.say(Op.OK)


def _id(text: str) -> str:
    try:
        return check_id(text)
    except ValueError as error:
        raise Garbage(f"{text[:80]!r}: {error}") from None
