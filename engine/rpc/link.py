"""A connection to a client: AF_UNIX, SOCK_SEQPACKET, one message a packet.

Whoever is at the other end may be slow, wrong or gone. So every wait ends, no packet makes us allocate more than a
fixed amount, and descriptors that nobody asked for are closed by the kernel, since no room is offered for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import Any

from engine import log
from engine.errors import CrError
from engine.images.schema import message
from engine.kernel.peer import Peer
from engine.option import EBADRQC

Message = Any

LARGEST = 1 << 20
"""Bytes of a request. The longest lists of mounts are far below."""
SENDING_SECONDS = 10
_TIMEVAL = struct.Struct("=qq")
_TYPE = 1  # criu_req.type


class Garbage(CrError):
    """A packet that is no request. The field answers with the end of the connection."""


class TooLarge(CrError):
    """A packet that we don't read."""


class Link:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes the socket over. Raises CrError when it is no connection of the kind."""
        kind = (sock.family, sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
        if kind != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            raise CrError(f"descriptor {sock.fileno()} is not a unix socket of type SOCK_SEQPACKET", EBADRQC)
        sock.set_inheritable(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(SENDING_SECONDS, 0))
        self._sock = sock
        self.peer = Peer.of(sock)
        self.inode = os.fstat(sock.fileno()).st_ino

    def peer_has_died(self) -> bool:
        """Whether the peer's pid may be another process's by now."""
        return self.peer.has_died(self._sock)

    def receive(self, seconds: int) -> Message | None:
        """The next criu_req; None when the client has gone. seconds: to wait for it, 0: for ever.

        Raises Garbage, TooLarge, TimeoutError.
        """
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(seconds, 0))
        try:
            packet, _, flags, _ = self._sock.recvmsg(LARGEST)
        except BlockingIOError:
            raise TimeoutError(f"the client said nothing for {seconds} s") from None
        except ConnectionError:
            return None
        if flags & socket.MSG_TRUNC:
            raise TooLarge(f"the request is larger than {LARGEST} bytes", EBADRQC)
        return _parse(packet) if packet else None

    def send(self, answer: Message, fd: int = -1) -> bool:
        """Send a criu_resp, with a descriptor if there is one. Returns whether it was sent: the client may be gone."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", fd))] if fd >= 0 else []
        try:
            self._sock.sendmsg([answer.SerializeToString()], rights, socket.MSG_NOSIGNAL)
        except OSError as error:
            log.warn(f"the client (pid {self.peer.pid}) can't be answered: {error.strerror}")
            return False
        return True

    def leave(self) -> None:
        """Close our descriptor of the connection, which other processes go on with."""
        self._sock.close()

    def close(self) -> None:
        """End the connection for every process that holds it.

        What the client has said meanwhile is read: a socket that is closed with something unread resets the other end,
        which then never sees our last answer (net/unix/af_unix.c, unix_release_sock).
        """
        with contextlib.suppress(OSError):  # the client was faster
            self._sock.shutdown(socket.SHUT_RDWR)
            while self._sock.recv(1, socket.MSG_DONTWAIT):
                continue
        self._sock.close()


def _parse(packet: bytes) -> Message:
    """A criu_req. A number that is no type of ours counts as EMPTY, which is answered as an invalid request."""
    from google.protobuf.message import DecodeError

    try:
        request = message("criu_req").FromString(packet)
    except DecodeError as error:
        raise Garbage(f"a packet of {len(packet)} bytes is no criu_req: {error}") from None
    if not request.HasField("type"):
        from google.protobuf.unknown_fields import UnknownFieldSet

        unknown: Any = UnknownFieldSet(request)
        if any(field.field_number == _TYPE for field in unknown):
            request.type = 0
    if missing := request.FindInitializationErrors():
        raise Garbage(f"a packet of {len(packet)} bytes is no criu_req: it lacks {', '.join(missing)}")
    return request
