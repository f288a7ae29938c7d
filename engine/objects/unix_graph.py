"""Who is connected to whom: the unix sockets of the images, before any of them exists again.

Images name a socket's peer by its inode number, which is 0 for none and for one that is closed. What else was there
once follows from names and queues.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from engine.kernel.unix_diag import CLOSE, ESTABLISHED, LISTEN
from engine.objects.unix_queue import RestoredQueues

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext

Message = Any

EXTERN, SERVICE = 1, 2
TYPES = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
STATES = (ESTABLISHED, CLOSE, LISTEN)
_UNIXSK = 5


class SocketGraph:
    """The entries of all unix sockets.

    by_ino     by inode number
    datagrams  datagram sockets by name
    listeners  by type and name
    """

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self.by_ino = {entry.usk.ino: entry.usk for entry in ctx.entries.values() if entry.type == _UNIXSK}
        self.datagrams: dict[bytes, list[Message]] = {}
        self.listeners: dict[tuple[int, bytes], Message] = {}
        self._clients: dict[int, list[Message]] = {}
        for entry in self.by_ino.values():
            self._index(entry)

    def _index(self, entry: Message) -> None:
        if entry.uflags & EXTERN:
            return
        if entry.peer and entry.peer != entry.ino:
            self._clients.setdefault(entry.peer, []).append(entry)
        if entry.state == LISTEN:
            self.listeners.setdefault((entry.type, entry.name), entry)
        elif entry.type == socket.SOCK_DGRAM and entry.name:
            self.datagrams.setdefault(entry.name, []).append(entry)

    def peer(self, entry: Message) -> Message | None:
        """The entry of a socket's peer: None when it has none, or one that is closed."""
        return self.by_ino.get(entry.peer) if entry.peer else None

    def clients(self, entry: Message) -> list[Message]:
        """Those whose peer a socket is, or whose connection it has not accepted."""
        return self._clients.get(entry.ino, [])

    def can_be_connected(self, entry: Message, peer: Message) -> bool:
        """Whether such a connection is possible. A socket without a name has one peer at most, from birth."""
        if peer.type != entry.type:
            return False
        if entry.type == socket.SOCK_DGRAM:
            return bool(peer.name) or [other.ino for other in self.clients(peer)] == [entry.ino]
        return bool(peer.ino != entry.ino and (peer.state == LISTEN or peer.peer == entry.ino))

    def datagram_partner(self, entry: Message) -> Message | None:
        """The socket that must have been made together with this one."""
        peer = self.peer(entry)
        if peer is not None and not peer.name and not peer.uflags & EXTERN:
            return peer
        if entry.name:
            return None
        clients = self.clients(entry)
        return clients[0] if clients else None

    def had_partner(self, entry: Message) -> bool:
        """Whether a socket was made together with one that is closed. One with a name may also have connected to one
        with a name, that is done later. CRIU does not say, but somebody must have sent what waits."""
        if self.peer(entry) is not None:
            return False
        if entry.HasField("peer_name"):
            return not (entry.name and entry.peer_name)
        return not entry.name and bool(self._ctx.part(RestoredQueues).of(entry.id))

    def sides(self, one: Message, other: Message) -> tuple[Message, Message]:
        """(client, server) of a connection. The server's end has the listener's name and, being younger, the higher
        inode number as a rule. Of two without a name either may be either."""

        def likely_server(entry: Message) -> tuple[bool, bool, int]:
            return (entry.type, entry.name) in self.listeners, bool(entry.name), entry.ino

        client, server = sorted((one, other), key=likely_server)
        return client, server

    def listen_queue(self, entry: Message) -> int:
        """The backlog that a listener needs to get back those who wait. It may be set lower afterwards."""
        return max(int(entry.backlog), len(entry.waiting), len(self.clients(entry)))
