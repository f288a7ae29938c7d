"""What the kernel tells about unix sockets: sock_diag(7), net/unix/diag.c, and the SIOCUNIXFILE ioctl."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from typing import NamedTuple

from engine.kernel.features.netlink import NETLINK_SOCK_DIAG, NLM_F_DUMP, request
from engine.kernel.proc_fdinfo import decode_sdev

_SOCK_DIAG_BY_FAMILY = 20
_ALL_STATES = 0xFFFFFFFF
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER, _SHOW_ICONS, _SHOW_RQLEN = 1, 2, 4, 8, 16
_NAME, _VFS, _PEER, _ICONS, _RQLEN, _MEMINFO, _SHUTDOWN = range(7)
_REQUEST = struct.Struct("=BBHIIIQ")
_MESSAGE = struct.Struct("=BBBBIQ")
_ATTRIBUTE = struct.Struct("=HH")
_SIOCUNIXFILE = 0x89E0

ESTABLISHED, CLOSE, LISTEN = 1, 7, 10
"""States, by the names of TCP's. A datagram socket is ESTABLISHED when it is connected, CLOSE before Linux 5.11."""


class UnixSocket(NamedTuple):
    """A unix socket of the net namespace.

    type      SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
    name      as bound: a file name with a NUL behind it, an abstract name with a NUL before it, or empty
    file      (st_dev, st_ino cut to 32 bits) of the file it is bound to, None without one. An accepted socket has the
              listener's.
    peer      inode number of the peer; 0: a peer that has none, being closed or not accepted yet; None: no peer
    waiting   of a listener: the inode numbers of those whose connection nobody has accepted, oldest first; 0: closed
    backlog   of a listener: how many may wait
    shutdown  RCV_SHUTDOWN 1, SEND_SHUTDOWN 2
    """

    ino: int
    type: int
    state: int
    name: bytes
    file: tuple[int, int] | None
    peer: int | None
    waiting: tuple[int, ...]
    backlog: int
    shutdown: int


def unix_sockets() -> dict[int, UnixSocket]:
    """All unix sockets of the engine's net namespace by inode number, but those that have none."""
    show = _SHOW_NAME | _SHOW_VFS | _SHOW_PEER | _SHOW_ICONS | _SHOW_RQLEN
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0)
    found = {}
    for answer in request(NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body):
        sock = _parse(answer)
        if sock.ino:
            found[sock.ino] = sock
    return found


def _parse(answer: bytes) -> UnixSocket:
    _, kind, state, _, ino, _ = _MESSAGE.unpack_from(answer)
    attributes = {}
    position = _MESSAGE.size
    while position + _ATTRIBUTE.size <= len(answer):
        size, attribute = _ATTRIBUTE.unpack_from(answer, position)
        attributes[attribute] = answer[position + _ATTRIBUTE.size : position + size]
        position += -(-size // 4) * 4
    vfs = attributes.get(_VFS)
    file_ino, device = struct.unpack("=II", vfs) if vfs else (0, 0)
    peer = attributes.get(_PEER)
    icons = attributes.get(_ICONS, b"")
    _, queue = struct.unpack("=II", attributes.get(_RQLEN, bytes(8)))
    return UnixSocket(
        ino=ino,
        type=kind,
        state=state,
        name=attributes.get(_NAME, b""),
        file=(decode_sdev(device), file_ino) if vfs else None,
        peer=int.from_bytes(peer, "little") if peer else None,
        waiting=struct.unpack(f"={len(icons) // 4}I", icons),
        backlog=queue if state == LISTEN else 0,
        shutdown=attributes.get(_SHUTDOWN, b"\0")[0],
    )


def bound_file(fd: int) -> int | None:
    """A descriptor (O_PATH, close-on-exec) of the file that a unix socket is bound to, None if to none. The file may be
    renamed or deleted by now: connect(2) to /proc/self/fd/N finds the socket still (CAP_NET_ADMIN; Linux 4.18)."""
    try:
        return fcntl.ioctl(fd, _SIOCUNIXFILE, 0)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise
