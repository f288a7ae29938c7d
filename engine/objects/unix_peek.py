"""What waits in the receive queue of a unix socket, seen without taking anything out of it.

MSG_PEEK, with SO_PEEK_OFF to get beyond the first message. That offset is the socket's, not ours, so it is put back.

Two things the kernel does not make easy:

A read of a stream goes through the packets that the writer made, and ends behind a packet with descriptors attached,
but begins before it, and a peek looks at all packets on the way even if it wants no byte of them. Where the packet with
the descriptors begins is found by kernel.sockets.peek_whole_packets().

An empty message is seen by one peek with an offset, and by none that follows (net/core/datagram.c,
__skb_try_recv_from_queue: `peeked`). At the end of a SOCK_SEQPACKET connection it can't be told from the end.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import CrError
from engine.kernel.sockets import peek_whole_packets
from engine.objects.unix_creds import UCRED, Creds

if TYPE_CHECKING:
    from collections.abc import Iterator

_SO_PEEK_OFF = 42
_SCM_PIDFD = 4
_SCM_MAX_FD = 253
_CONTROL_SIZE = socket.CMSG_SPACE(4 * _SCM_MAX_FD) + socket.CMSG_SPACE(UCRED.size) + 4 * socket.CMSG_SPACE(256)
_BUFFER_SIZE = 1 << 18
_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_MOST_EMPTY = 256


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
            creds = Creds(*UCRED.unpack(content))
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
