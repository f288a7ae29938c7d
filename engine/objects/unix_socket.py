"""Unix sockets: unix(7). What a dump finds out about them; a restore is unix_pairs.py's and unix_settle.py's work.

Beside this file: unix_name.py for names and their files, unix_queue.py for what waits to be read, unix_waiting.py
for connections that nobody has accepted yet, unix_creds.py for SO_PEERCRED, sock_opts.py for options.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from typing import TYPE_CHECKING, Any

from engine.images.text import set_text
from engine.kernel.sockets import borrowed
from engine.kernel.unix_diag import LISTEN, UnixSocket, unix_sockets
from engine.objects import sock_opts, socket_label, unix_creds, unix_name, unix_waiting
from engine.objects.base import FileKind
from engine.objects.ext_file import check_plugin
from engine.objects.external import is_external, is_inherited
from engine.objects.fown import clear
from engine.objects.socket_label import SocketLabels
from engine.objects.unix_graph import EXTERN, SERVICE, STATES, TYPES, SocketGraph
from engine.objects.unix_pairs import RestoredSockets, inherit_key, saying
from engine.objects.unix_peek import bytes_waiting, events, raw_name
from engine.objects.unix_plugin import CALLBACK, DumpedByPlugins
from engine.objects.unix_queue import DumpedQueues, RestoredQueues
from engine.objects.unix_settle import settle
from engine.objects.unix_waiting import DumpedWaiting

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any


def _external_keys(ino: int, peer: int) -> tuple[str, str]:
    """By what keys --external calls a socket with a peer outside of the tree."""
    return f"unix[{ino}]", f"unix[{peer}]"


class UnixSocketKind(FileKind):
    """UNIXSK."""

    type = 5
    field = "usk"

    def recognise(self, file: OpenFile) -> bool:
        if not stat.S_ISSOCK(file.stat.st_mode) or not file.link.startswith("socket:"):
            return False
        with borrowed(file.copy) as sock:
            return sock.family == socket.AF_UNIX

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        row = ctx.part(_DumpedSockets).rows.get(file.stat.st_ino)
        if row is None:
            what = f"{file}: a unix socket that the kernel does not list in this net namespace"
            ctx.problems.add(what, file.task.pid, "dump it from within its net namespace")
            return
        sock_opts.refuse(file, ctx)
        if row.state != LISTEN and not _refuse_queue(file, ctx):
            ctx.part(DumpedQueues).read(file)

    def refuse_late(self, ctx: DumpContext) -> None:
        rows = ctx.part(_DumpedSockets).rows
        for file in ctx.files:
            if file.kind is self and (row := rows.get(file.stat.st_ino)):
                _peer(file, row, ctx)
                ctx.part(DumpedWaiting).collect(file, row, ctx.part(_DumpedSockets).file)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        sockets = ctx.part(_DumpedSockets)
        row = sockets.rows[file.stat.st_ino]
        entry = message("unix_sk_entry")(
            id=file.id,
            ino=row.ino,
            type=row.type,
            state=row.state,
            flags=file.flags,
            uflags=SERVICE if _is_to_service(row, ctx) else 0,
            backlog=row.backlog,
            peer=_peer(file, row, ctx),
            shutdown=row.shutdown,
            uid=file.stat.st_uid,
            gid=file.stat.st_gid,
        )
        unix_name.describe(entry, file, row.name)
        if file.is_in_flight and (context := socket_label.dumped(file, ctx)):
            set_text(entry, "selinux_context", context)
        sock_opts.dump(file.copy, entry.opts)
        ctx.part(DumpedWaiting).describe(file, entry)
        ctx.part(DumpedByPlugins).describe(entry)
        with borrowed(file.copy) as sock:
            unix_creds.dump_peer(sock, entry)
            if row.peer == 0 and row.ino not in sockets.listeners:
                entry.peer_name = _peer_name(sock)
            if events(sock) & select.POLLERR:
                entry.connection_reset = True
        return entry

    def finish_dump(self, ctx: DumpContext) -> None:
        ctx.part(DumpedQueues).write()

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        if entry.type not in TYPES or entry.state not in STATES:
            what = f"unix socket (file {entry.id}): type {entry.type} in state {entry.state} is not possible"
            ctx.problems.add(what, remedy="the image is damaged")
        if not entry.uflags & EXTERN:
            unix_name.check(entry, ctx)
        ctx.part(SocketLabels).check(entry.id, f"unix socket (file {entry.id})")
        _check_peer(entry, ctx)
        unix_waiting.check(entry, ctx)
        ctx.part(RestoredQueues).check(ctx)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        with saying(entry):
            return ctx.part(RestoredSockets).open(entry)

    def fill(self, entry: Message, fd: int, ctx: RestoreContext) -> None:
        settle(ctx)
        ctx.part(SocketLabels).verify(entry.id, fd)


UNIX_SOCKET = UnixSocketKind()


# Restore


def _check_peer(entry: Message, ctx: RestoreContext) -> None:
    """The peer must be there, or be allowed not to be, and be one that a socket can have."""
    sockets = ctx.part(SocketGraph)
    what = f"unix socket (file {entry.id})"
    if sockets.by_ino[entry.ino].id != entry.id:
        other = sockets.by_ino[entry.ino].id
        ctx.problems.add(f"{what}: file {other} is the same socket", remedy="the image is damaged")
    peer = sockets.peer(entry)
    if peer is not None:
        if not sockets.can_be_connected(entry, peer):
            ctx.problems.add(f"{what}: can't be connected to file {peer.id}", remedy="the image is damaged")
        return
    if entry.uflags & CALLBACK:
        check_plugin(entry, what, "RESTORE_UNIX_SK", ctx)
        return
    key = inherit_key(entry.ino)
    if entry.peer and not is_external(ctx, *_external_keys(entry.ino, entry.peer)) and not is_inherited(ctx, key):
        remedy = f"pass the socket by --inherit-fd fd[N]:{key}"
        ctx.problems.add(f"{what}: its peer {entry.peer} is not in the images", remedy=remedy)


# Dump


class _DumpedSockets:
    """All unix sockets of the net namespace, and which of them the tree has.

    rows       by inode number
    listeners  inode number of a client whose connection waits -> the listener's
    """

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._external: dict[int, int] = {}
        self._files: dict[int, OpenFile] = {}
        self._looked_at = 0
        self.rows = unix_sockets()
        self.listeners = {client: row.ino for row in self.rows.values() for client in row.waiting if client}

    def file(self, ino: int) -> OpenFile | None:
        """The description of a socket, None when the tree has none."""
        for file in self._ctx.files[self._looked_at :]:
            if file.kind is UNIX_SOCKET:
                self._files[file.stat.st_ino] = file
        self._looked_at = len(self._ctx.files)
        return self._files.get(ino)

    def add_external(self, row: UnixSocket, user: OpenFile) -> bool:
        """An entry for a socket outside the tree, for the name to connect to. Tells whether the name is known to lead
        there, at least for the task that is connected to it."""
        from engine.images.schema import message

        if row.ino in self._external:
            return True
        directory = unix_name.directory_of(row, user)
        if directory is None:
            return False
        file_id = self._external[row.ino] = self._ctx.new_file_id()
        entry = message("unix_sk_entry")(
            id=file_id,
            ino=row.ino,
            type=row.type,
            state=LISTEN,
            flags=os.O_RDWR,
            uflags=EXTERN,
            backlog=0,
            peer=0,
            name=row.name,
        )
        clear(entry.fown)
        for field in entry.opts.DESCRIPTOR.fields:
            if field.is_required:
                setattr(entry.opts, field.name, 0)
        if directory:
            set_text(entry, "name_dir", directory)
        self._ctx.add_entry(UNIX_SOCKET, entry)
        return True


def _refuse_queue(file: OpenFile, ctx: DumpContext) -> bool:
    """Whether the queue of a socket can't be looked at, or need not be."""
    with borrowed(file.copy) as sock:
        seen = events(sock)
        if seen & select.POLLPRI:
            what = f"{file}: a byte of out-of-band data (MSG_OOB) waits, which can't be looked at"
            ctx.problems.add(what, file.task.pid, "read it before the dump")
            return True
        if not seen & select.POLLERR or sock.type == socket.SOCK_STREAM:
            return False
        # Receiving tells the pending error, and that is how it goes away.
        if bytes_waiting(sock):
            what = f"{file}: messages wait behind an error, which looking at them would take away"
            ctx.problems.add(what, file.task.pid, "read them before the dump")
        return True


def _peer(file: OpenFile, row: UnixSocket, ctx: DumpContext) -> int:
    """The inode number of the peer as images have it, 0 for none."""
    sockets = ctx.part(_DumpedSockets)
    peer = sockets.listeners.get(row.ino) or row.peer
    if not peer or _is_to_service(row, ctx):
        return 0
    if sockets.file(peer) is not None:
        return peer
    if is_external(ctx, *_external_keys(row.ino, peer)) or ctx.part(DumpedByPlugins).offer(file):
        if ctx.part(DumpedQueues).has(file):
            what = f"{file}: is external, and what waits in it could only be sent again by its peer"
            ctx.problems.add(what, file.task.pid, "dump again when it has been read")
        return peer
    other = sockets.rows.get(peer)
    remedy = "dump the process at the other end too"
    if row.type == socket.SOCK_DGRAM and other is not None and other.name:
        if not ctx.opts.allows_external_peer(peer):
            remedy = f"--ext-unix-sk {peer} connects it again on restore"
        elif sockets.add_external(other, file):
            return peer
        else:
            remedy = "its name does not lead to it"
    else:
        remedy += f", or let it be closed by --external unix[{row.ino}]"
    ctx.problems.add(f"{file}: is connected to unix socket {peer}, which is not in the tree", file.task.pid, remedy)
    return 0


def _is_to_service(row: UnixSocket, ctx: DumpContext) -> bool:
    """Whether a socket is the one through which the tree has asked to be dumped. It gets its answer when restored."""
    return ctx.opts.client is not None and row.peer == ctx.opts.client.link.inode


def _peer_name(sock: socket.socket) -> bytes:
    """The name of a peer that is closed."""
    try:
        return raw_name(sock.getpeername())
    except OSError:
        return b""
