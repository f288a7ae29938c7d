"""crucible image-proxy: the source's side of a remote dump. Takes the images of a dump and sends them on to the cache.

It passes frames on, one at a time, and keeps none: when the network is slower than the dump, the dump waits. So its
memory does not depend on what is dumped. A connection to the cache always stands by: a dump need not wait for it, and
when the cache goes, the proxy knows, and ends.
"""

from __future__ import annotations

import os
import resource
import select
import threading
from functools import partial
from typing import TYPE_CHECKING

from engine import daemon, log
from engine.errors import CrError
from engine.transport import remote_endpoints
from engine.transport.frames import SAID_BY_CACHES, SAID_BY_DUMPS, ImageLink, Op
from engine.transport.sessions import Sessions

if TYPE_CHECKING:
    import socket

    from engine.options import Options


def run(opts: Options) -> int:
    """The verb. Returns when a signal or the end of the cache has ended it; raises CrError."""
    proxy = _Proxy(opts)
    door, name = remote_endpoints.listen_unix(opts, remote_endpoints.PROXY_SOCKET)
    try:
        return daemon.run(opts, "image proxy", lambda: partial(proxy.serve, door))
    finally:
        os.unlink(name)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        log.info(f"The image proxy took at most {peak:.1f} MiB, of which images never more than 1 MiB for each dump")


class _Proxy:
    def __init__(self, opts: Options) -> None:
        """CrError: the cache is not there."""
        self._opts = opts
        self._guard = threading.Lock()
        self._spare: ImageLink | None = remote_endpoints.connect_tcp(opts)
        self._why = ""

    def serve(self, door: socket.socket) -> int:
        sessions = Sessions(self._opts.remote_timeout)
        sessions.add_door(door, "a dump", self._serve_dump)
        sessions.serve(self._cache_has_gone, self._watched)
        log.error(self._why)
        sessions.finish()
        return 1

    def _watched(self) -> list[int]:
        with self._guard:
            return [self._spare.fileno()] if self._spare else []

    def _cache_has_gone(self) -> bool:
        """Nothing is said to who stands by, so what there is to hear is the end."""
        with self._guard:
            if self._spare and not self._why and self._spare.is_readable(0):
                self._why = f"{self._spare.peer} has gone"
            return bool(self._why)

    def _take_spare(self) -> ImageLink:
        """The connection that stands by; another one takes its place. CrError: there is none."""
        with self._guard:
            if self._why or not self._spare:
                raise CrError(self._why or "no connection to the image cache stands by")
            taken, self._spare = self._spare, None
            try:
                self._spare = remote_endpoints.connect_tcp(self._opts)
            except CrError as error:
                self._why = error.message
            return taken

    def _serve_dump(self, dump: ImageLink) -> None:
        log.info("A dump has come")
        cache = self._take_spare()
        try:
            dump.say(Op.OK)
            _relay(dump, cache)
        finally:
            cache.close()
        log.info("A dump has gone")


def _relay(dump: ImageLink, cache: ImageLink) -> None:
    """Until the dump ends the connection, or the cache refuses what it says. CrError: either has failed.

    The cache is listened to first: what it says while the dump writes is why it takes no more.
    """
    poll = select.poll()
    for link in (cache, dump):
        poll.register(link.fileno(), select.POLLIN)
    while True:
        readable = {fd for fd, _ in poll.poll()}
        if cache.fileno() in readable:
            frame = cache.hear(ops=SAID_BY_CACHES)
            if frame is None:
                raise CrError(f"{cache.peer} has ended the connection")
            if frame.op == Op.ERROR:
                raise CrError(frame.text)
            dump.forward(frame)
        elif dump.fileno() in readable:
            frame = dump.hear(ops=SAID_BY_DUMPS)
            if frame is None:
                return
            cache.forward(frame)
