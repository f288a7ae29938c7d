"""Unix sockets as they come into being: each alone, or two that are connected.

Which sockets are made together follows from what the kernel allows. A socket without a name can be connected to by
socketpair(2) only. An accepted stream socket has its listener's name, and shows to its peer who has called listen(2),
so it is made by connecting to that listener; where the listener is gone, to another one of the name, made for this
purpose. A socket whose peer is closed is made with one that will be.

Nothing waits in a socket then, and datagram sockets that connect by name are not connected: see unix_settle.py.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import log
from engine.errors import CrError
from engine.kernel.sockets import accept, borrowed, file_of_descriptor
from engine.kernel.unix_diag import ESTABLISHED, LISTEN, bound_file
from engine.objects import unix_creds
from engine.objects.ext_file import make_again
from engine.objects.external import inherited
from engine.objects.socket_label import SocketLabels
from engine.objects.unix_graph import SERVICE, SocketGraph
from engine.objects.unix_name import Names, is_file_name, shown, sockaddr
from engine.objects.unix_plugin import CALLBACK
from engine.objects.unix_service import answer_of_self_dump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.restore_context import RestoreContext

Message = Any

_RCV_SHUTDOWN, _SEND_SHUTDOWN = 1, 2


def inherit_key(ino: int) -> str:
    """By what key --inherit-fd calls a socket. ino: its inode number in the images."""
    return f"socket:[{ino}]"


class _Listener(NamedTuple):
    """temporary: made for one connection."""

    fd: int
    name: bytes
    type: int
    temporary: bool


class RestoredSockets:
    """The unix sockets of a restore. Its tables go by the inode number in the images.

    fds        descriptors of all that exist
    partners   the descriptor of what a socket is connected to by birth
    to_close   those of the partners that only stand for a peer that is closed
    inherited  those that the user has given (--inherit-fd), or a plugin
    """

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._graph = ctx.part(SocketGraph)
        self._labels = ctx.part(SocketLabels)
        self.fds: dict[int, int] = {}
        self.partners: dict[int, int] = {}
        self.to_close: list[int] = []
        self.inherited: set[int] = set()
        self._unclaimed: set[int] = set()
        self._shut_before: dict[int, int] = {}
        ctx.at_end(self._close_unclaimed)

    def _close_unclaimed(self) -> None:
        for ino in self._unclaimed:
            os.close(self.fds[ino])

    def open(self, entry: Message) -> int:
        """The descriptor of a socket, which may have been made together with another one already."""
        if entry.ino not in self.fds:
            given = inherited(self._ctx, inherit_key(entry.ino))
            if given is None and entry.uflags & CALLBACK:
                given = make_again(entry, f"unix socket (file {entry.id})", "RESTORE_UNIX_SK", self._ctx)
            if given is not None:
                self._have(entry, given)
                self.inherited.add(entry.ino)
            elif entry.type == socket.SOCK_DGRAM:
                self._make_datagram(entry)
            else:
                self._make_stream(entry)
        else:
            self._unclaimed.discard(entry.ino)
        return self.fds[entry.ino]

    def shut_before(self, entry: Message) -> int:
        """The shutdown bits that were set before a socket was connected."""
        return self._shut_before.get(entry.ino, 0)

    def address(self, fd: int, name: bytes) -> bytes:
        """A struct sockaddr by which a socket with a name is reached, whatever has become of its file. It is good for
        as long as the restore lasts, for stubs too."""
        if not is_file_name(name):
            return sockaddr(name)
        file = bound_file(fd)
        if file is None:
            raise CrError(f"unix socket {shown(name)}: the kernel does not tell its file (Linux 4.18)")
        self._ctx.at_end(partial(os.close, file))
        return sockaddr(os.fsencode(file_of_descriptor(file)) + b"\0")

    # One alone

    def _make(self, entry: Message) -> int:
        fd = self._labels.new_socket(entry.id, entry.type)
        self._have(entry, fd)
        self._name(entry)
        return fd

    def _have(self, entry: Message, fd: int, claimed: bool = True) -> None:
        self.fds[entry.ino] = fd
        if not claimed:
            self._unclaimed.add(entry.ino)

    def _name(self, entry: Message) -> None:
        if entry.name:
            self._ctx.part(Names).bind(self.fds[entry.ino], entry)

    # Datagrams

    def _make_datagram(self, entry: Message) -> None:
        partner = self._graph.datagram_partner(entry)
        if partner is not None:
            self._make_pair(entry, partner)
            self._name(partner)
            self._name(entry)
        elif self._graph.had_partner(entry):
            self._make_pair(entry, None)
            if entry.peer_name:
                self._ctx.part(Names).bind_nowhere(self.partners[entry.ino], entry.peer_name)
            self._name(entry)
        else:
            self._make(entry)

    def _make_pair(self, one: Message, other: Message | None) -> None:
        """socketpair(2). other: None for one that is to be closed."""
        left, right = unix_creds.socketpair(one.type, unix_creds.peer_of(one, one, self._ctx), one.id, self._ctx)
        self._join(one, left, other, right)

    def _join(self, one: Message, left: int, other: Message | None, right: int) -> None:
        self._have(one, left)
        self.partners[one.ino] = right
        if other is None:
            self.to_close.append(right)
        else:
            self._have(other, right, claimed=False)
            self.partners[other.ino] = left

    # Streams and sequenced packets

    def _make_stream(self, entry: Message) -> None:
        peer = self._graph.peer(entry)
        if entry.state == LISTEN:
            self._make_listener(entry)
        elif entry.uflags & SERVICE:
            self._make_pair(entry, None)
            os.write(self.partners[entry.ino], answer_of_self_dump())
        elif entry.state != ESTABLISHED or (peer is not None and peer.state == LISTEN):
            self._make(entry)
        elif peer is not None:
            client, server = self._graph.sides(entry, peer)
            self._make_connection(client, server)
            self._unclaimed.discard(entry.ino)
            self._unclaimed.add(peer.ino)
        elif entry.name and not entry.peer_name:
            self._make_connection(None, entry)
        else:
            self._make_connection(entry, None)

    def _make_listener(self, entry: Message) -> None:
        fd = self._make(entry)
        unix_creds.listen(fd, self._graph.listen_queue(entry), unix_creds.peer_of(entry, entry, self._ctx), self._ctx)

    def _make_connection(self, client: Message | None, server: Message | None) -> None:
        """Two connected sockets; None for one that is to be closed, not for both."""
        listener = self._listener(client, server)
        if listener is None:
            one, other = (server, None) if client is None else (client, server)
            self._make_pair(one, other)
            for entry in (client, server):
                if entry is not None:
                    self._name(entry)
            return
        left, right = self._connect(client, server, listener)
        one, mine, other, its = (server, right, None, left) if client is None else (client, left, server, right)
        self._join(one, mine, other, its)

    def _connect(self, client: Message | None, server: Message | None, listener: _Listener) -> tuple[int, int]:
        """(client's, server's end) of a connection to a listener."""
        fd = self._labels.new_socket(client.id if client is not None else 0, listener.type)
        if client is not None:
            self._have(client, fd)
            self._name(client)
            if server is not None:
                self.shut_down_alone(client, server, fd)
        actor = client if client is not None else server
        creds = unix_creds.peer_of(server, actor, self._ctx) if server is not None else None
        try:
            unix_creds.connect(fd, self.address(listener.fd, listener.name), creds, self._ctx)
            return fd, accept(listener.fd)
        finally:
            if listener.temporary:
                os.close(listener.fd)

    def _listener(self, client: Message, server: Message) -> _Listener | None:
        """Who accepts a connection: the listener of the server's name, or one made for it. None: nobody can, as the
        server's end has no name, or another process has it."""
        known = server if server is not None else client
        name = server.name if server is not None else client.peer_name
        if not name:
            return None
        kind = known.type
        entry = self._graph.listeners.get((kind, name))
        if entry is not None:
            return _Listener(self._ctx.open_file(entry.id), name, kind, False)
        fd = self._labels.new_socket(known.id, kind)
        try:
            self._ctx.part(Names).bind_nowhere(fd, name)
        except OSError as error:
            os.close(fd)
            log.warn(f"unix socket {shown(name)}: an accepted connection loses this name: {error.strerror}")
            return None
        creds = unix_creds.peer_of(client, known, self._ctx) if client is not None else None
        unix_creds.listen(fd, 1, creds, self._ctx)
        return _Listener(fd, name, kind, True)

    def shut_down_alone(self, client: Message, server: Message | None, fd: int) -> None:
        """Shut down what the client had shut before it connected: there was nobody to be told, so that the server's
        end does not know (net/unix/af_unix.c, unix_shutdown)."""
        if server is None:
            return
        mirrored = (server.shutdown & _RCV_SHUTDOWN) << 1 | (server.shutdown & _SEND_SHUTDOWN) >> 1
        alone = client.shutdown & ~mirrored
        if alone:
            self._shut_before[client.ino] = alone
            shut_down(fd, alone)


@contextmanager
def saying(entry: Message) -> Iterator[None]:
    """Errors of the kernel get to say which socket they are about."""
    try:
        yield
    except OSError as error:
        raise CrError(f"unix socket {shown(entry.name)} (file {entry.id}): {error.strerror}") from error


def shut_down(fd: int, bits: int) -> None:
    """shutdown(2) by the kernel's bits."""
    with borrowed(fd) as sock:
        sock.shutdown((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)[bits - 1])
