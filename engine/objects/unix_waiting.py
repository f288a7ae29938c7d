"""Connections to unix sockets that wait to be accepted: unix_waiting_entry.

Such a connection has a descriptor at the client's end only, or none at all when the client is closed already. Its other
end has no inode number as yet, so the client seems to have a peer without one; the listener knows the client. The image
says that the client's peer is the listener. What was sent is in the kernel alone, see kernel/unix_waiting.py.

CRIU's images know no more than the client's peer, and it refuses connections that hold data or whose client is closed.
Where the kernel can't be looked into, so does a dump here.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from engine import log
from engine.kernel.sockets import new_socket
from engine.objects import sock_opts, unix_creds
from engine.objects.unix_creds import Creds
from engine.objects.unix_graph import SocketGraph
from engine.objects.unix_name import Names, shown
from engine.objects.unix_pairs import RestoredSockets, saying
from engine.objects.unix_queue import DumpedQueues, Queue, RestoredQueues, deliver

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_context import DumpContext
    from engine.kernel.unix_diag import UnixSocket
    from engine.kernel.unix_waiting import WaitingConnection, WaitingPacket
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_MOST = 1 << 12
_REMEDY = "accept it before the dump"


# Dump


class DumpedWaiting:
    """The connections that wait at each listener, as they are in its entry."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._entries: dict[OpenFile, list[Message]] = {}
        self._addresses: dict[int, OpenFile] = {}

    def collect(self, file: OpenFile, row: UnixSocket, find: Callable[[int], OpenFile | None]) -> None:
        """Find out about a listener's connections, and add to the problems what stands against them.

        find  gives the description of a socket in the tree by its inode number
        Clients get their numbers in files.img here, so that a reader that goes by these makes them in this order.
        """
        if not row.waiting:
            return
        clients = [find(ino) if ino else None for ino in row.waiting]
        seen, why = self._look(file, len(clients))
        entries, queues = [], []
        for number, (ino, client) in enumerate(zip(row.waiting, clients, strict=True)):
            connection = seen[number] if seen else None
            self._refuse(file, ino, client, connection, why)
            if client is not None:
                self._ctx.file_id(client)
            entries.append(_describe(ino, connection))
            queues.append([self._message(file, packet) for packet in connection.packets] if connection else [])
        self._entries[file] = entries
        self._ctx.part(DumpedQueues).add_waiting(file, queues)

    def describe(self, file: OpenFile, entry: Message) -> None:
        """Fill in what a listener's entry has of its connections."""
        entry.waiting.extend(self._entries.get(file, ()))

    @staticmethod
    def _look(file: OpenFile, count: int) -> tuple[list[WaitingConnection], str]:
        """(the connections, or none with the reason)."""
        from engine.kernel.unix_waiting import waiting_connections

        try:
            seen = waiting_connections(file.copy)
        except OSError as error:
            return [], str(error.strerror)
        if len(seen) < count:
            return [], "its queue has changed meanwhile"
        return seen, ""

    def _refuse(
        self, file: OpenFile, ino: int, client: OpenFile | None, seen: WaitingConnection | None, why: str
    ) -> None:
        remedy = _REMEDY
        if ino and client is None:
            what, remedy = f"is of socket {ino}, which is not in the tree", "dump the client too"
        elif seen is not None:
            if not seen.out_of_band:
                return
            what = "has out-of-band data (MSG_OOB) in it"
        elif client is None:
            what = f"is closed at the client's end, and what it sent can't be seen ({why})"
        elif _bytes_sent(client):
            what = f"has data in it, which can't be seen ({why})"
        else:
            return
        self._ctx.problems.add(f"{file}: an in-flight connection, not accepted yet, {what}", file.task.pid, remedy)

    def _message(self, file: OpenFile, packet: WaitingPacket) -> Queue:
        files = [held for held in map(self._file, packet.files) if held is not None]
        if len(files) < len(packet.files):
            what = f"{file}: an in-flight connection, not accepted yet, holds a descriptor that no task has open"
            self._ctx.problems.add(what, file.task.pid, _REMEDY)
        return Queue(packet.data, files, b"", Creds(*packet.creds) if packet.creds and packet.creds[0] else None)

    def _file(self, address: int) -> OpenFile | None:
        """The description that the kernel has at an address. No descriptor can be had of it, so it must be known."""
        from engine.kernel.kernel_memory import kernel_memory

        if len(self._addresses) < len(self._ctx.files):
            self._addresses = {kernel_memory().file(file.copy): file for file in self._ctx.files}
        return self._addresses.get(address)


def _describe(ino: int, seen: WaitingConnection | None) -> Message:
    from engine.images.schema import message

    entry = message("unix_waiting_entry")(client=ino)
    if seen is not None:
        entry.shutdown = seen.shutdown
        if not ino and seen.name:
            entry.name = seen.name
        if seen.creds and seen.creds[0]:
            entry.creds.pid, entry.creds.uid, entry.creds.gid = seen.creds
    return entry


def _bytes_sent(file: OpenFile) -> int:
    """SIOCOUTQ: memory that messages take which the socket has sent and nobody has read."""
    count: int = struct.unpack("=i", fcntl.ioctl(file.copy, termios.TIOCOUTQ, bytes(4)))[0]
    return count


# Restore


def check(entry: Message, ctx: RestoreContext) -> None:
    """A listener's connections must be those of clients that wait for it."""
    clients = [item.client for item in entry.waiting if item.client]
    good = {client.ino for client in ctx.part(SocketGraph).clients(entry)}
    if len(entry.waiting) > _MOST or len(set(clients)) != len(clients) or not good.issuperset(clients):
        what = f"unix socket (file {entry.id}): has connections waiting that can't be"
        ctx.problems.add(what, remedy="the image is damaged")


def related(entry: Message, ctx: RestoreContext) -> list[int]:
    """The ids of descriptions that a listener's connections need: the clients, and what they have sent."""
    queues = ctx.part(RestoredQueues)
    clients = [client.id for client in ctx.part(SocketGraph).clients(entry)]
    items = [item for number in range(len(entry.waiting)) for item in queues.of(entry.id, number)]
    return clients + [right for item in items for right in item.rights]


def connect_waiting(listener: Message, ctx: RestoreContext) -> None:
    """Make a listener's connections, in their order.

    What is to be accepted takes over some of the listener's options (SO_PASSCRED) when it is accepted or, since Linux
    6.16, when it comes into being; so the listener has them before.
    """
    from engine.images.schema import message

    sockets, graph = ctx.part(RestoredSockets), ctx.part(SocketGraph)
    waiting = list(listener.waiting)
    known = {item.client for item in waiting}
    clients = sorted(graph.clients(listener), key=lambda client: int(client.id))
    waiting += [message("unix_waiting_entry")(client=client.ino) for client in clients if client.ino not in known]
    if waiting:
        sock_opts.restore(sockets.fds[listener.ino], listener.opts)
    for number, item in enumerate(waiting):
        if not item.client:
            with saying(listener):
                _connect_closed(item, listener, number, ctx)
        elif item.client not in sockets.inherited:
            client = graph.by_ino[item.client]
            with saying(client):
                _connect_client(client, item, listener, number, ctx)


def _connect_client(client: Message, item: Message, listener: Message, number: int, ctx: RestoreContext) -> None:
    sockets = ctx.part(RestoredSockets)
    fd = sockets.fds[client.ino]
    if item.HasField("shutdown"):
        sockets.shut_down_alone(client, item, fd)
    # Who accepts will see who has the client now, where it is not known who connected it.
    creds = _creds(item) or unix_creds.holder_of(client, ctx)
    _connect(fd, creds, listener, number, ctx)


def _connect_closed(item: Message, listener: Message, number: int, ctx: RestoreContext) -> None:
    """A connection whose client is closed as soon as it has sent what there is."""
    fd = new_socket(socket.AF_UNIX, listener.type)
    try:
        if item.name:
            try:
                ctx.part(Names).bind_nowhere(fd, item.name)
            except OSError as error:
                log.warn(f"a closed client of unix socket {shown(listener.name)} loses its name: {error.strerror}")
        _connect(fd, _creds(item), listener, number, ctx)
    finally:
        os.close(fd)


def _creds(item: Message) -> Creds | None:
    return Creds(item.creds.pid, item.creds.uid, item.creds.gid) if item.HasField("creds") else None


def _connect(fd: int, creds: Creds | None, listener: Message, number: int, ctx: RestoreContext) -> None:
    """Connect a client, and send what it has sent. number: place of the connection in the listener's queue."""
    sockets = ctx.part(RestoredSockets)
    unix_creds.connect(fd, sockets.address(sockets.fds[listener.ino], listener.name), creds, ctx)
    for item in ctx.part(RestoredQueues).of(listener.id, number):
        deliver(listener.id, fd, None, item, ctx)
