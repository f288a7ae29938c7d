"""Unix sockets get their queues, their last connections and their options, when all of them exist.

The order is what the kernel asks for. A datagram socket that is connected takes messages from its peer alone, so queues
are filled before it is connected, and whoever connects to it does so before it connects to somebody else. A connection
that nobody shall accept yet is made when the others have been accepted. Shutting down, closing peers and options, some
of which change what sending does, come last.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.images.text import get_text
from engine.kernel.sockets import borrowed, connect, file_of_descriptor, new_socket
from engine.kernel.unix_diag import ESTABLISHED, LISTEN
from engine.objects import sock_opts, unix_creds, unix_waiting
from engine.objects.paths import open_name
from engine.objects.status_flags import set_flags
from engine.objects.unix_graph import EXTERN, SocketGraph
from engine.objects.unix_name import Names, is_file_name, shown, sockaddr
from engine.objects.unix_pairs import RestoredSockets, saying, shut_down
from engine.objects.unix_queue import RestoredQueues, deliver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.restore_context import RestoreContext

Message = Any


def settle(ctx: RestoreContext) -> None:
    """Finish all sockets that exist and are not finished yet, with those that wait in their queues."""
    sockets = ctx.part(RestoredSockets)
    done = ctx.part(_Done)
    all_new: list[Message] = []
    by_ino = ctx.part(SocketGraph).by_ino
    while new := [entry for ino, entry in by_ino.items() if ino in sockets.fds and ino not in done.inos]:
        done.inos |= {entry.ino for entry in new}
        all_new += new
        for entry in new:
            for file_id in _related(entry, ctx):
                ctx.open_file(file_id)
    all_new.sort(key=lambda entry: int(entry.id))
    entries = [entry for entry in all_new if entry.ino not in sockets.inherited]
    for entry in entries:
        with saying(entry):
            _Filler(entry, ctx).fill()
    _Connector(ctx, entries).connect_datagrams()
    for entry in all_new:
        if entry.state == LISTEN:
            unix_waiting.connect_waiting(entry, ctx)
    for entry in all_new:
        with saying(entry):
            _finish(entry, ctx)
    while sockets.to_close:
        os.close(sockets.to_close.pop())


def _related(entry: Message, ctx: RestoreContext) -> list[int]:
    """The ids of the descriptions without which a socket can't be finished."""
    rights = [right for item in ctx.part(RestoredQueues).of(entry.id) for right in item.rights]
    if entry.state == LISTEN:
        return rights + unix_waiting.related(entry, ctx)
    peer = ctx.part(SocketGraph).peer(entry)
    if peer is not None and peer.state == LISTEN and not peer.uflags & EXTERN:
        return [*rights, peer.id]
    return rights


class _Done:
    """Inode numbers of the sockets that have been finished."""

    def __init__(self, _: RestoreContext) -> None:
        self.inos: set[int] = set()


class _Filler:
    """Fills the queue of one socket."""

    def __init__(self, entry: Message, ctx: RestoreContext) -> None:
        self._entry = entry
        self._ctx = ctx
        self._sockets = ctx.part(RestoredSockets)
        self._temporary: dict[bytes, int] = {}

    def fill(self) -> None:
        messages = self._ctx.part(RestoredQueues).of(self._entry.id)
        if not messages:
            return
        partner = self._sockets.partners.get(self._entry.ino)
        address = None if partner is not None else self._address()
        try:
            for item in messages:
                sender = partner if partner is not None else self._sender(item.sender)
                deliver(self._entry.id, sender, address, item, self._ctx)
        finally:
            for fd in self._temporary.values():
                os.close(fd)

    def _address(self) -> str | bytes:
        """Where messages to this socket are sent, as Python's socket objects take it."""
        entry = self._entry
        if entry.type != socket.SOCK_DGRAM or not entry.name:
            raise CrError(f"unix socket (file {entry.id}): has a queue, and nobody to fill it", cr_errno=0)
        return self._sockets.address(self._sockets.fds[entry.ino], entry.name)[2:].removesuffix(
            b"\0" if is_file_name(entry.name) else b""
        )

    def _sender(self, name: bytes) -> int:
        """A socket of that name: the one that has it, or one that is closed when the queue is full."""
        for other in self._ctx.part(SocketGraph).datagrams.get(name, ()):
            if other.ino in self._sockets.fds:
                return self._sockets.fds[other.ino]
        if name not in self._temporary:
            fd = self._temporary[name] = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            if name:
                try:
                    self._ctx.part(Names).bind_nowhere(fd, name)
                except OSError as error:
                    log.warn(f"messages from unix socket {shown(name)} lose their sender's name: {error.strerror}")
        return self._temporary[name]


class _Connector:
    """Makes the connections that are made by name."""

    def __init__(self, ctx: RestoreContext, entries: list[Message]) -> None:
        self._ctx = ctx
        self._sockets = ctx.part(RestoredSockets)
        self._entries = entries

    def connect_datagrams(self) -> None:
        """Those that connect to a name."""
        for entry in self._in_order([entry for entry in self._entries if entry.type == socket.SOCK_DGRAM]):
            with saying(entry):
                self._connect_datagram(entry)

    def _in_order(self, entries: list[Message]) -> Iterator[Message]:
        """Each behind those that connect to it. Two that are connected to each other come last."""
        waiting = {entry.ino: entry for entry in entries}
        before = dict.fromkeys(waiting, 0)
        for entry in entries:
            if entry.peer in before and entry.peer != entry.ino:
                before[entry.peer] += 1
        ready = [ino for ino, count in before.items() if not count]
        while ready:
            entry = waiting.pop(ready.pop())
            yield entry
            if entry.peer != entry.ino and entry.peer in waiting:
                before[entry.peer] -= 1
                if not before[entry.peer]:
                    ready.append(entry.peer)
        yield from waiting.values()

    def _connect_datagram(self, entry: Message) -> None:
        peer, fd = self._ctx.part(SocketGraph).peer(entry), self._sockets.fds[entry.ino]
        if peer is None:
            if entry.peer_name and entry.ino not in self._sockets.partners:
                self._connect_to_closed(fd, entry.peer_name)
            elif entry.state == ESTABLISHED and entry.name:
                self._be_connected_to(fd, entry)
        elif peer.uflags & EXTERN:
            self._connect_to_external(fd, peer)
        elif self._sockets.partners.get(entry.ino) != self._sockets.fds.get(peer.ino):
            self._ctx.open_file(peer.id)
            connect(fd, self._sockets.address(self._sockets.fds[peer.ino], peer.name))

    def _connect_to_closed(self, fd: int, name: bytes) -> None:
        peer = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._ctx.part(Names).bind_nowhere(peer, name)
            connect(fd, self._sockets.address(peer, name))
        finally:
            os.close(peer)

    def _be_connected_to(self, fd: int, entry: Message) -> None:
        """The kernel takes a datagram socket for connected as soon as somebody has connected to it, and keeps to that
        (net/unix/af_unix.c, unix_dgram_connect)."""
        visitor = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        connect(visitor, self._sockets.address(fd, entry.name))
        os.close(visitor)

    def _connect_to_external(self, fd: int, peer: Message) -> None:
        try:
            if not is_file_name(peer.name):
                connect(fd, sockaddr(peer.name))
                return
            place = os.path.join(get_text(peer.name_dir), shown(peer.name))
            directory = open_name(os.path.dirname(place), os.O_PATH | os.O_DIRECTORY)
            try:
                address = os.path.join(file_of_descriptor(directory), os.path.basename(place))
                connect(fd, sockaddr(os.fsencode(address) + b"\0"))
            finally:
                os.close(directory)
        except OSError as error:
            what = f"unix socket {shown(peer.name)}, which the tree is connected to: {error.strerror}"
            raise CrError(f"{what} (start the process that has it)") from error


def _finish(entry: Message, ctx: RestoreContext) -> None:
    """What changes how a socket behaves."""
    sockets = ctx.part(RestoredSockets)
    fd = sockets.fds[entry.ino]
    partner = sockets.partners.get(entry.ino)
    if entry.state == LISTEN and ctx.part(SocketGraph).listen_queue(entry) != entry.backlog:
        unix_creds.listen(fd, entry.backlog, unix_creds.peer_of(entry, entry, ctx), ctx)
    if entry.connection_reset and partner in sockets.to_close:
        _leave_unread(fd)
    bits = entry.shutdown & ~sockets.shut_before(entry)
    if bits:
        shut_down(fd, bits)
    sock_opts.restore(fd, entry.opts)
    if entry.HasField("uid"):
        os.fchown(fd, entry.uid, entry.gid)
    set_flags(fd, entry.flags)


def _leave_unread(fd: int) -> None:
    """Have the peer closed with something to read: that is what resets a connection."""
    with borrowed(fd) as sock:
        sock.send(b"\0", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
