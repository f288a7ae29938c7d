"""What dump, image proxy, image cache and restore say to each other: docs/remote.md has the protocol.

A connection carries frames: a header, and a body whose length the header tells. Nothing that a peer says makes us
allocate more than one frame, and what is no frame ends the connection.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import socket
import struct
import time
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import CrError
from engine.images.magic import KINDS, UNUSED
from engine.transport.channel import PATIENCE_SECONDS, Channel

if TYPE_CHECKING:
    from typing import Final

GREETING: Final = b"crucible images 1"
"""The protocol and its version, the body of the first frame of each connection."""
LARGEST: Final = 1 << 20
"""Bytes of a body."""
_HEADER = struct.Struct("<BxHI")
_SIZE = struct.Struct("<Q")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_ID_FORM = "letters, digits and . _ -, at most 64, and the first none of . -"
_LONGEST_ERROR = 4096
_DRAIN = 1 << 16
_SMALL = 1 << 16
_ONE_FD = socket.CMSG_LEN(struct.calcsize("i"))
_MSG_CMSG_CLOEXEC = 0x40000000


class Op(IntEnum):
    """What a frame says. Requests are below 32, what answers them above."""

    HELLO = 1
    BEGIN = 2
    OPEN = 3
    DATA = 4
    CLOSE = 5
    SYNC = 6
    COMMIT = 7
    DISCARD = 8
    SIZE = 9
    GET = 10
    PARENT = 11
    AWAIT = 12
    ACCEPT = 13
    OK = 32
    ABSENT = 33
    FOUND = 34
    NAME = 35
    WAIT = 36
    ERROR = 37


SAID_BY_DUMPS = frozenset(
    {Op.HELLO, Op.BEGIN, Op.OPEN, Op.DATA, Op.CLOSE, Op.SYNC, Op.COMMIT, Op.DISCARD, Op.SIZE, Op.GET, Op.PARENT}
)
SAID_BY_RESTORES = frozenset({Op.HELLO, Op.SIZE, Op.GET, Op.PARENT, Op.AWAIT, Op.ACCEPT})
SAID_BY_CACHES = frozenset({Op.OK, Op.ABSENT, Op.FOUND, Op.NAME, Op.WAIT, Op.DATA, Op.ERROR})


class Garbage(CrError):
    """What a peer says is not of the protocol."""


class Frame(NamedTuple):
    """number: of the image that an OPEN began, in OPEN, DATA and CLOSE; else 0. body: until the next frame."""

    op: Op
    number: int
    body: memoryview

    @property
    def text(self) -> str:
        return str(self.body, "utf-8", "backslashreplace")

    @property
    def size(self) -> int:
        """Of CLOSE and FOUND. Raises Garbage."""
        if len(self.body) != _SIZE.size:
            raise Garbage(f"{self.op.name} has {len(self.body)} bytes instead of {_SIZE.size}")
        return int(_SIZE.unpack(self.body)[0])

    @property
    def words(self) -> tuple[str, str]:
        """Of BEGIN, SIZE and GET: an id, and another or the name of an image. Raises Garbage."""
        first, zero, second = self.text.partition("\0")
        if not zero:
            raise Garbage(f"{self.op.name} lacks its second word")
        return first, second


def header(op: Op, number: int, size: int) -> bytes:
    """What goes before a body of `size` bytes."""
    return _HEADER.pack(op, number, size)


def size_body(size: int) -> bytes:
    return _SIZE.pack(size)


def words_body(first: str, second: str) -> bytes:
    return f"{first}\0{second}".encode()


def check_id(text: str) -> str:
    """The id of a snapshot. Raises ValueError."""
    if not _ID.fullmatch(text):
        raise ValueError(f"an id of a snapshot has {_ID_FORM}")
    return text


def check_image(name: str) -> str:
    """The file name of an image, by the table of kinds. Raises Garbage."""
    if not _image_names().fullmatch(name):
        raise Garbage(f"{name[:80]!r} is no name of an image")
    return name


@functools.cache
def _image_names() -> re.Pattern[str]:
    ids = {"%u": "(?:0|[1-9][0-9]{0,9})", "%x": "(?:0|[1-9a-f][0-9a-f]{0,15})", None: ""}
    parts = []
    for kind in KINDS.values():
        if kind.status != UNUSED and not kind.in_work_dir:
            before, conversion, after = re.split("(%[ux])|$", kind.pattern, maxsplit=1)
            parts.append(re.escape(before) + ids[conversion] + re.escape(after))
    return re.compile("|".join(parts))


class ImageLink(Channel):
    """A connection of the protocol. Every failure is a CrError that names the peer.

    fd   the descriptor that came with the last frame, for whoever wants it; -1: none came
    """

    def __init__(
        self, sock: socket.socket, peer: str, patience: float = PATIENCE_SECONDS, takes_fds: bool = False
    ) -> None:
        super().__init__(sock, peer, patience)
        self.fd = -1
        self._takes_fds = takes_fds
        self._has_failed = False
        self._buffer = bytearray(_HEADER.size)

    def close(self) -> None:
        self._keep(-1)
        super().close()

    def say(self, op: Op, body: bytes | memoryview = b"", number: int = 0) -> None:
        """Send a frame."""
        head = header(op, number, len(body))
        if len(body) <= _SMALL:
            self.send(head + bytes(body))
        else:
            self.send(head)
            self.send(body)

    def hand(self, fd: int, size: int) -> None:
        """Send FOUND with a descriptor of the image."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
        body = size_body(size)
        frame = header(Op.FOUND, 0, len(body)) + body
        sent = self._patiently(lambda: self._socket.sendmsg([frame], rights, socket.MSG_NOSIGNAL), select.POLLOUT)
        self.send(frame[sent:])

    def forward(self, frame: Frame) -> None:
        """Send what another link has received."""
        self.say(frame.op, frame.body, frame.number)

    def hear(self, idle: float | None = None, ops: frozenset[Op] | None = None) -> Frame | None:
        """The next frame. None: the peer has ended the connection, between two frames.

        idle  seconds until it must begin, default: the link's patience; 0: for ever
        ops   what the peer may say
        """
        self._wait_readable(self.patience if idle is None else idle)
        with memoryview(self._buffer)[: _HEADER.size] as head:
            done = self.receive_into(head)
            if not done:
                return None
            self._fill(head[done:])
            number, channel, size = _HEADER.unpack(head)
        if ops is not None and number not in ops:
            raise Garbage(f"{self.peer} says {number} where that means nothing")
        if number not in iter(Op) or size > LARGEST:
            raise Garbage(f"{self.peer} says what is no frame: {number}, with {size} bytes")
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        body = memoryview(self._buffer)[:size]
        self._fill(body)
        return Frame(Op(number), channel, body)

    def ask(self, op: Op, body: bytes = b"") -> Frame:
        """Send a request and wait for what answers it, as long as the peer says that there is something to wait for.
        CrError: the answer is an error, or none came."""
        self.say(op, body)
        while True:
            answer = self.hear(ops=SAID_BY_CACHES)
            if answer is None:
                raise CrError(f"{self.peer} has ended the connection before it answered")
            if answer.op == Op.ERROR:
                raise CrError(answer.text)
            if answer.op != Op.WAIT:
                return answer

    def greet(self) -> None:
        """Begin a connection."""
        if self.ask(Op.HELLO, GREETING).op != Op.OK:
            raise Garbage(f"{self.peer} does not answer as an image proxy or cache does")

    def refuse(self, why: str) -> None:
        """Say what is wrong, and that nothing more will be said. The peer may be gone."""
        try:
            self.say(Op.ERROR, why.encode(errors="backslashreplace")[:_LONGEST_ERROR])
            self._socket.shutdown(socket.SHUT_WR)
        except (CrError, OSError):
            pass

    def drain(self, seconds: float) -> None:
        """Read and forget what the peer still says, until it ends the connection or the time is over."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(CrError), memoryview(bytearray(_DRAIN)) as view:
            while (left := deadline - time.monotonic()) > 0 and self.is_readable(left * 1000):
                if not self.receive_into(view):
                    break

    def take_fd(self) -> int:
        """The descriptor that came with the last answer, which is the caller's now. -1: none came."""
        fd, self.fd = self.fd, -1
        return fd

    def failed(self, error: OSError) -> CrError:
        """What has become of the connection: the peer may have said why before it ended it."""
        said = None if self._has_failed else self._last_words()
        return said or super().failed(error)

    def _last_words(self) -> CrError | None:
        self._has_failed = True
        try:
            while self.is_readable(0):
                frame = self.hear()
                if frame is None or frame.op == Op.ERROR:
                    return CrError(frame.text) if frame else None
        except CrError:
            pass
        return None

    def receive_into(self, view: memoryview) -> int:
        if not self._takes_fds:
            return super().receive_into(view)
        return self._patiently(lambda: self._receive_with_fd(view), select.POLLIN)

    def _receive_with_fd(self, view: memoryview) -> int:
        size, rights, _, _ = self._socket.recvmsg_into([view], _ONE_FD, _MSG_CMSG_CLOEXEC)
        for level, kind, content in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(content) == struct.calcsize("i"):
                self._keep(*struct.unpack("i", content))
        return size

    def _keep(self, fd: int) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd

    def _fill(self, view: memoryview) -> None:
        """Receive so many bytes."""
        done = 0
        while done < len(view):
            part = self.receive_into(view[done:])
            if not part:
                raise Garbage(f"{self.peer} has ended the connection in the middle of a frame")
            done += part

    def is_readable(self, milliseconds: float | None) -> bool:
        """Whether there is something to hear, or an end, within that time; None: there will be."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(milliseconds))

    def _wait_readable(self, seconds: float) -> None:
        """seconds: 0: for ever."""
        if not self.is_readable(seconds * 1000 or None):
            raise CrError(f"{self.peer} says nothing any more, {seconds:g} seconds were waited")
