"""What waits in the receive queues of unix sockets: sk-queues.img. How a dump sees it: unix_peek.py, and for the
connections that nobody has accepted yet unix_waiting.py.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import log
from engine.errors import CrError
from engine.kernel.sockets import borrowed
from engine.objects import unix_creds
from engine.objects.unix_creds import UCRED, Creds
from engine.objects.unix_peek import peek

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.images.writer import ImageWriter
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_LARGEST_BUFFER = 1 << 30
_SO_SNDBUFFORCE = 32
_TOO_MUCH = (errno.EAGAIN, errno.EMSGSIZE, errno.ENOBUFS)
_SCM_RIGHTS_TYPE = 1


class Queue(NamedTuple):
    """A message in a queue, or a stretch of a stream. files: the descriptions that its descriptors are of."""

    data: bytes
    files: list[OpenFile]
    sender: bytes
    creds: Creds | None


# Dump


class DumpedQueues:
    """The queues of all unix sockets, by description."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._queues: dict[OpenFile, list[Queue]] = {}
        self._waiting: dict[OpenFile, list[list[Queue]]] = {}

    def read(self, file: OpenFile) -> None:
        """Look at the queue of a socket. Descriptions in it that are not known yet become known."""
        self._queues[file] = []
        with borrowed(file.copy) as sock:
            for message in peek(sock):
                files = [self._ctx.table.adopt(fd, file.task) for fd in message.fds]
                self._queues[file].append(Queue(message.data, files, message.sender, message.creds))

    def has(self, file: OpenFile) -> bool:
        """Whether anything waits in a socket."""
        return bool(self._queues.get(file))

    def add_waiting(self, listener: OpenFile, queues: list[list[Queue]]) -> None:
        """What waits in each of the connections that wait to be accepted."""
        self._waiting[listener] = queues

    def write(self) -> None:
        """sk-queues.img."""
        with self._ctx.images.writer("SK_QUEUES") as writer:
            for file, queue in self._queues.items():
                for item in queue:
                    self._put(writer, self._packet(file, item), item)
            for listener, queues in self._waiting.items():
                for number, queue in enumerate(queues):
                    for item in queue:
                        entry = self._packet(listener, item)
                        entry.connection = number
                        self._put(writer, entry, item)

    def _packet(self, receiver: OpenFile, item: Queue) -> Message:
        from engine.images.schema import message

        entry = message("sk_packet_entry")(id_for=receiver.id, length=len(item.data))
        if item.files:
            entry.scm.add(type=_SCM_RIGHTS_TYPE, rights=[self._ctx.file_id(held) for held in item.files])
        if item.sender:
            entry.sender = item.sender
        if item.creds is not None:
            entry.creds.pid, entry.creds.uid, entry.creds.gid = item.creds
        return entry

    @staticmethod
    def _put(writer: ImageWriter, entry: Message, item: Queue) -> None:
        writer.put(entry)
        writer.put_payload(item.data)


# Restore


class RestoredMessage(NamedTuple):
    """A message to be sent. rights: ids in files.img; sender: the name of the socket it came from."""

    data: bytes
    rights: list[int]
    sender: bytes
    creds: Creds | None


class RestoredQueues:
    """The messages of sk-queues.img, by the id of the receiver and the number of the waiting connection, if in one."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._messages: dict[tuple[int, int | None], list[RestoredMessage]] = {}
        self._checked = False
        if not ctx.images.exists("SK_QUEUES"):
            return
        with ctx.images.reader("SK_QUEUES") as reader:
            for entry in reader:
                rights = [file_id for scm in entry.scm if scm.type == _SCM_RIGHTS_TYPE for file_id in scm.rights]
                creds = Creds(entry.creds.pid, entry.creds.uid, entry.creds.gid) if entry.HasField("creds") else None
                item = RestoredMessage(reader.payload(), rights, entry.sender, creds)
                connection = entry.connection if entry.HasField("connection") else None
                self._messages.setdefault((entry.id_for, connection), []).append(item)

    def of(self, file_id: int, connection: int | None = None) -> list[RestoredMessage]:
        """What waits in a socket, or in a connection that waits to be accepted by it."""
        return self._messages.get((file_id, connection), [])

    def check(self, ctx: RestoreContext) -> None:
        """Receivers and passed descriptions must be in files.img. One check is enough, whoever asks."""
        if self._checked:
            return
        self._checked = True
        for (receiver, _), messages in self._messages.items():
            missing = {right for item in messages for right in item.rights} | {receiver}
            for file_id in sorted(missing - ctx.entries.keys()):
                what = f"sk-queues.img: refers to file {file_id}, which files.img lacks"
                ctx.problems.add(what, remedy="the image is damaged")


def deliver(
    receiver: int, sender: int, address: bytes | str | None, item: RestoredMessage, ctx: RestoreContext
) -> None:
    """Have a message sent by whom it was sent. receiver: id in files.img, for errors; the rest as for send()."""
    fds = [ctx.open_file(right) for right in item.rights]
    with unix_creds.existing(item.creds.pid, ctx) if item.creds else nullcontext(True) as exists:
        if not exists:
            log.warn(f"unix socket (file {receiver}): the sender of a message in its queue is forgotten")
            item = item._replace(creds=None)
        try:
            send(sender, address, item, fds)
        except OSError as error:
            what = f"a message of {len(item.data)} bytes can't be put into its queue: {error.strerror}"
            remedy = "raise net.unix.max_dgram_qlen" if isinstance(error, BlockingIOError) else "see unix(7)"
            raise CrError(f"unix socket (file {receiver}): {what} ({remedy})") from error


def send(sender: int, address: bytes | str | None, item: RestoredMessage, fds: list[int]) -> None:
    """Send a message. address: of the receiver, None where the sender is connected to it. fds: those of its rights.

    The send buffer is enlarged when the message does not fit; sock_opts.restore() sets it right again.
    """
    who = [] if item.creds is None else [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, UCRED.pack(*item.creds))]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"={len(fds)}i", *fds))] if fds else []
    to = () if address is None else (address,)
    with borrowed(sender) as sock:
        rest = memoryview(item.data)
        while True:
            try:
                sent = sock.sendmsg([rest], rights + who, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, *to)
            except OSError as error:
                if error.errno not in _TOO_MUCH or not _enlarge(sock, len(rest)):
                    raise
                continue
            rest = rest[sent:]
            # Descriptors go with the first bytes, as they did.
            rights = []
            if sock.type != socket.SOCK_STREAM or not rest:
                return


def _enlarge(sock: socket.socket, length: int) -> bool:
    """Make the send buffer larger. Tells whether that is worth another try."""
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    if size >= _LARGEST_BUFFER:
        return False
    wanted = min(2 * size + 2 * length, _LARGEST_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, wanted // 2)
    return True
