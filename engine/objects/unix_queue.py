"""What waits in the receive queues of unix sockets: sk-queues.img.

A dump looks at a queue without taking anything out of it: MSG_PEEK, with SO_PEEK_OFF to get beyond the first message.
That offset is the socket's, not ours, so it is put back.

Two things the kernel does not make easy:

A read of a stream goes through the packets that the writer made, and ends behind a packet with descriptors attached,
but begins before it, and a peek looks at all packets on the way even if it wants no byte of them. Where the packet with
the descriptors begins is found by kernel.sockets.peek_whole_packets().

An empty message is seen by one peek with an offset, and by none that follows (net/core/datagram.c,
__skb_try_recv_from_queue: `peeked`). At the end of a SOCK_SEQPACKET connection it can't be told from the end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.kernel.sockets import borrowed, peek_whole_packets
from engine.objects.unix_creds import Creds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_SO_PEEK_OFF = 42
_SCM_PIDFD = 4
_SCM_MAX_FD = 253
_UCRED = struct.Struct("=iII")
_CONTROL_SIZE = socket.CMSG_SPACE(4 * _SCM_MAX_FD) + socket.CMSG_SPACE(_UCRED.size) + 4 * socket.CMSG_SPACE(256)
_BUFFER_SIZE = 1 << 18
_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_MOST_EMPTY = 256
_LARGEST_BUFFER = 1 << 30
_SO_SNDBUFFORCE = 32
_TOO_MUCH = (errno.EAGAIN, errno.EMSGSIZE, errno.ENOBUFS)
_SCM_RIGHTS_TYPE = 1


class Received(NamedTuple):
    """A message as one peek shows it. fds: of the engine, new ones every time."""

    data: bytes
    fds: list[int]
    sender: bytes
    creds: Creds | None
    truncated: bool

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


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

    def write(self) -> None:
        """sk-queues.img."""
        from engine.images.schema import message

        with self._ctx.images.writer("SK_QUEUES") as writer:
            for file, queue in self._queues.items():
                for item in queue:
                    entry = message("sk_packet_entry")(id_for=file.id, length=len(item.data))
                    if item.files:
                        entry.scm.add(type=_SCM_RIGHTS_TYPE, rights=[self._ctx.file_id(held) for held in item.files])
                    if item.sender:
                        entry.sender = item.sender
                    if item.creds is not None:
                        entry.creds.pid, entry.creds.uid, entry.creds.gid = item.creds
                    writer.put(entry)
                    writer.put_payload(item.data)


def peek(sock: socket.socket) -> Iterator[Received]:
    """All that waits in a socket, oldest first; nothing is taken away. The caller gets the descriptors.

    Of a stream: stretches, cut where descriptors are attached and, with SO_PASSCRED, where the sender changes.
    """
    with _peek_offset(sock):
        if sock.type == socket.SOCK_STREAM:
            yield from _peek_stream(sock)
        else:
            yield from _peek_messages(sock)


@contextmanager
def _peek_offset(sock: socket.socket) -> Iterator[None]:
    before = sock.getsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF)
    _seek(sock, 0)
    try:
        yield
    finally:
        _seek(sock, before)


def _seek(sock: socket.socket, offset: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, offset)


def _peek_stream(sock: socket.socket) -> Iterator[Received]:
    offset, end = 0, bytes_waiting(sock)
    # Not one read beyond the end: it would take a pending error away.
    while offset < end and (seen := _receive(sock, _BUFFER_SIZE)) is not None:
        if seen.fds:
            seen.close()
            _seek(sock, offset)
            before = peek_whole_packets(sock.fileno(), len(seen.data) - 1)
            if before:
                yield Received(seen.data[:before], [], seen.sender, seen.creds, False)
            offset += before
            seen = _whole_packet(sock, offset)
        yield seen
        offset += len(seen.data)
        _seek(sock, offset)


def _whole_packet(sock: socket.socket, offset: int) -> Received:
    """The packet with descriptors that begins at an offset. Each read of a part of it brings the descriptors again."""
    size = _BUFFER_SIZE
    while True:
        _seek(sock, offset)
        seen = _receive(sock, size)
        if seen is None:
            raise CrError(f"a unix socket's queue has changed while it was looked at, at byte {offset}")
        if len(seen.data) < size:
            return seen
        seen.close()
        size *= 2


def _peek_messages(sock: socket.socket) -> Iterator[Received]:
    size, offset = _BUFFER_SIZE, 0
    empty: list[Received] = []
    most = _MOST_EMPTY if sock.type == socket.SOCK_SEQPACKET and events(sock) & select.POLLRDHUP else 0
    while (seen := _receive(sock, size)) is not None:
        if seen.truncated:
            seen.close()
            size *= 2
            _seek(sock, offset)
        elif most and not seen.data and not seen.fds:
            # Either an empty message, if one that is not follows, or the end, which is met again and again.
            empty.append(seen)
            if len(empty) > most:
                return
        else:
            yield from empty
            empty.clear()
            yield seen
            offset += len(seen.data)


def _receive(sock: socket.socket, size: int) -> Received | None:
    """One look at what comes next; None when nothing does."""
    try:
        data, control, flags, address = sock.recvmsg(size, _CONTROL_SIZE, _PEEK)
    except BlockingIOError:
        return None
    fds: list[int] = []
    creds = None
    for level, kind, content in control:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"={len(content) // 4}i", content[: len(content) // 4 * 4])
        elif kind == socket.SCM_CREDENTIALS:
            creds = Creds(*_UCRED.unpack(content))
        elif kind == _SCM_PIDFD and (pidfd := struct.unpack("=i", content)[0]) >= 0:
            os.close(pidfd)
    if flags & socket.MSG_CTRUNC:
        raise CrError("too few descriptors are left for those in a unix socket's queue (raise RLIMIT_NOFILE)")
    return Received(data, fds, raw_name(address), creds, bool(flags & socket.MSG_TRUNC))


def raw_name(address: str | bytes | None) -> bytes:
    """A name as Python gives it, in the kernel's form: a file name with a NUL behind it."""
    if isinstance(address, str):
        return os.fsencode(address) + b"\0" if address else b""
    return address or b""


def bytes_waiting(sock: socket.socket) -> int:
    """SIOCINQ: of a stream or SOCK_SEQPACKET all bytes that wait, of datagrams the length of the first."""
    count: int = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return count


def events(sock: socket.socket) -> int:
    """What poll(2) says about a socket now."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLPRI | select.POLLRDHUP)
    return next((seen for _, seen in poll.poll(0)), 0)


# Restore


class RestoredMessage(NamedTuple):
    """A message to be sent. rights: ids in files.img; sender: the name of the socket it came from."""

    data: bytes
    rights: list[int]
    sender: bytes
    creds: Creds | None


class RestoredQueues:
    """The messages of sk-queues.img by the id of the receiver."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._messages: dict[int, list[RestoredMessage]] = {}
        self._checked = False
        if not ctx.images.exists("SK_QUEUES"):
            return
        with ctx.images.reader("SK_QUEUES") as reader:
            for entry in reader:
                rights = [file_id for scm in entry.scm if scm.type == _SCM_RIGHTS_TYPE for file_id in scm.rights]
                creds = Creds(entry.creds.pid, entry.creds.uid, entry.creds.gid) if entry.HasField("creds") else None
                item = RestoredMessage(reader.payload(), rights, entry.sender, creds)
                self._messages.setdefault(entry.id_for, []).append(item)

    def of(self, file_id: int) -> list[RestoredMessage]:
        return self._messages.get(file_id, [])

    def check(self, ctx: RestoreContext) -> None:
        """Receivers and passed descriptions must be in files.img. One check is enough, whoever asks."""
        if self._checked:
            return
        self._checked = True
        for receiver, messages in self._messages.items():
            missing = {right for item in messages for right in item.rights} | {receiver}
            for file_id in sorted(missing - ctx.entries.keys()):
                what = f"sk-queues.img: refers to file {file_id}, which files.img lacks"
                ctx.problems.add(what, remedy="the image is damaged")


def send(sender: int, address: bytes | str | None, item: RestoredMessage, fds: list[int]) -> None:
    """Send a message. address: of the receiver, None where the sender is connected to it. fds: those of its rights.

    The send buffer is enlarged when the message does not fit; sock_opts.restore() sets it right again.
    """
    who = [] if item.creds is None else [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, _UCRED.pack(*item.creds))]
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
