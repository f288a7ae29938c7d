"""crucible page-server: take the pages of a dump or pre-dump on another machine and put them into images here.

It serves one client and ends. What the client says is checked before it is done; and when the client has not said that
all is there (CLOSE), nothing is kept of what it has sent.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from engine import daemon, log
from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.progress import Progress
from engine.transport import endpoint
from engine.transport.channel import Channel
from engine.transport.protocol import HAS_PARENT, SIZE, STATUS, Command, PageMessage, page_map_of
from engine.transport.received import ReceivedPageMap

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from engine.options import Options

PATIENCE_SECONDS = 300.0
"""How long a client may say nothing: it may have to wait for its tree to freeze, and for scripts."""
_FIRST_PAGES_ID = 0x10001
"""Pages files of the dump's own side, should it write to the same directory, have smaller numbers."""
_MOST_PAGE_MAPS = 1 << 22
"""As many as there can be processes."""


def run(opts: Options) -> int:
    """The verb. Returns the exit status; raises CrError."""
    server = prepare(opts)
    if opts.ps_socket < 0:
        log.msg(f"The page server listens at {endpoint.name_of(server)}")
    return daemon.run(opts, "page-server", lambda: partial(serve, opts, server))


def prepare(opts: Options) -> socket.socket:
    """The socket that serve() is going to use: one that listens, or the one of --ps-socket. Raises CrError."""
    with ImageDir(opts.images_dir_fd) as images:
        if opts.prev_images_dir is not None:
            images.relative(opts.prev_images_dir).close()
            images.renew(opts.prev_images_dir)
    if opts.tls:
        from engine.transport import tls

        tls.context(opts, for_server=True)
    return endpoint.given(opts.ps_socket) if opts.ps_socket >= 0 else endpoint.listen(opts)


def serve(opts: Options, server: socket.socket, patience: float = PATIENCE_SECONDS) -> int:
    """Serve one client. Returns 0; raises CrError."""
    channel = endpoint.accept(opts, server, patience, opts.remote_timeout)
    try:
        with ImageDir(opts.images_dir_fd) as images:
            PageServer(channel, images, opts.auto_dedup).serve()
    finally:
        channel.close()
    log.info("All pages have been received")
    return 0


class PageServer:
    """One client, from its first message to its CLOSE."""

    def __init__(self, channel: Channel, images: ImageDir, auto_dedup: bool = False) -> None:
        self._channel = channel
        self._images = images
        self._auto_dedup = auto_dedup
        self._current: ReceivedPageMap | None = None
        self._seen: set[int] = set()
        self._progress = Progress("Receiving memory")
        self._commands: dict[int, Callable[[PageMessage], None]] = {
            Command.ADD: self._add,
            Command.HOLE: self._add,
            Command.ADD_F: self._add,
            Command.OPEN: self._open,
            Command.OPEN2: self._open_and_tell,
            Command.PARENT: self._tell_of_parent,
        }

    def serve(self) -> None:
        """Do what the client says until it says CLOSE. CrError: it did not come to that; nothing is left."""
        try:
            with self._progress:
                self._do_all()
            self._close_current()
            if self._auto_dedup:
                self._dedup()
        except BaseException:
            if self._current:
                self._current.discard()
            self._images.discard()
            raise
        self._channel.send(STATUS.pack(0))

    def _do_all(self) -> None:
        while (message := self._next()).command not in (Command.CLOSE, Command.FORCE_CLOSE):
            if message.command not in self._commands:
                raise CrError(f"{self._channel.peer} asks for {message.command}, which no page server does")
            self._commands[message.command](message)

    def _next(self) -> PageMessage:
        return PageMessage.decode(self._channel.receive(SIZE))

    def _open(self, message: PageMessage) -> None:
        """An older set of images that is here has no page maps of its own from now on, and so is none any more."""
        kind, id = page_map_of(message.destination)
        if message.destination in self._seen or len(self._seen) >= _MOST_PAGE_MAPS:
            raise CrError(f"{self._channel.peer} opens {self._images.path(kind, id)} twice")
        if not self._seen:
            self._images.remove("INVENTORY")
        self._close_current()
        self._seen.add(message.destination)
        pages_id = _FIRST_PAGES_ID + len(self._seen) - 1
        self._current = ReceivedPageMap(self._images, kind, id, pages_id, self._progress)

    def _open_and_tell(self, message: PageMessage) -> None:
        self._open(message)
        assert self._current
        self._channel.send(HAS_PARENT.pack(self._current.has_parent))

    def _tell_of_parent(self, message: PageMessage) -> None:
        kind, id = page_map_of(message.destination)
        parent = self._images.parent()
        found = False
        if parent:
            with parent:
                found = parent.exists(kind, id)
        self._channel.send(STATUS.pack(found))

    def _add(self, message: PageMessage) -> None:
        if self._current is None:
            raise CrError(f"{self._channel.peer} sends pages of nothing")
        self._current.receive(message, self._channel)

    def _close_current(self) -> None:
        if self._current:
            self._current.close()
            self._current = None

    def _dedup(self) -> None:
        """All is there, whatever comes of this."""
        from engine.dedup import punch_page_maps

        try:
            punch_page_maps(self._images)
        except CrError as error:
            log.warn(error.message)
