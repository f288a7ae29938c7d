"""Options that sockets of all families have: socket(7), SOL_SOCKET.

The kernel doubles a buffer size that it is given and shows the doubled one. Setting a size also locks it against being
tuned, so the locks (SO_BUF_LOCK) are set afterwards, as they were.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel.sockets import attach_filter, borrowed, get_filter

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile

Message = Any

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_TIMEVAL = struct.Struct("=qq")
_LINGER = struct.Struct("=ii")
_INSTRUCTION = struct.Struct("=HBBI")
_DEVICE_NAME = 16
_MOST_INSTRUCTIONS = 4096
_WORD = struct.Struct("=I")
_MASK = 0xFFFFFFFF
_ABSENT = (errno.ENOPROTOOPT, errno.EOPNOTSUPP)


class _Option(NamedTuple):
    """An option that is a number. default: what a field of ours, which CRIU does not have, need not be written for."""

    field: str
    number: int
    default: int | None = None


_OPTIONS = (
    _Option("so_priority", socket.SO_PRIORITY),
    _Option("so_rcvlowat", socket.SO_RCVLOWAT),
    _Option("so_mark", socket.SO_MARK),
    _Option("reuseaddr", socket.SO_REUSEADDR),
    _Option("so_reuseport", socket.SO_REUSEPORT),
    _Option("so_passcred", socket.SO_PASSCRED),
    _Option("so_passsec", socket.SO_PASSSEC),
    _Option("so_dontroute", socket.SO_DONTROUTE),
    _Option("so_no_check", 11),
    _Option("so_broadcast", socket.SO_BROADCAST),
    _Option("so_keepalive", socket.SO_KEEPALIVE),
    _Option("so_oobinline", socket.SO_OOBINLINE),
    _Option("so_buf_lock", 72),
    _Option("so_passpidfd", 76, 0),
    _Option("so_passrights", 83, 1),
    _Option("so_peek_off", 42, -1),
    _Option("so_timestamp", 29, 0),
    _Option("so_timestampns", 35, 0),
)
_SO_LOCK_FILTER = 44
_BUFFERS = (("so_sndbuf", socket.SO_SNDBUF, _SO_SNDBUFFORCE), ("so_rcvbuf", socket.SO_RCVBUF, _SO_RCVBUFFORCE))
_TIMEOUTS = (("snd", socket.SO_SNDTIMEO), ("rcv", socket.SO_RCVTIMEO))


def refuse(file: OpenFile, ctx: DumpContext) -> None:
    """An eBPF program can't be read back."""
    try:
        get_filter(file.copy)
    except PermissionError:
        what = f"{file}: has an eBPF program attached, which the kernel does not give back"
        ctx.problems.add(what, file.task.pid, "detach it before the dump")


def dump(fd: int, entry: Message) -> None:
    """Fill a sk_opts_entry."""
    with borrowed(fd) as sock:
        for field, number, _ in _BUFFERS:
            setattr(entry, field, sock.getsockopt(socket.SOL_SOCKET, number))
        for direction, number in _TIMEOUTS:
            seconds, microseconds = _TIMEVAL.unpack(sock.getsockopt(socket.SOL_SOCKET, number, _TIMEVAL.size))
            setattr(entry, f"so_{direction}_tmo_sec", seconds)
            setattr(entry, f"so_{direction}_tmo_usec", microseconds)
        for option in _OPTIONS:
            value = _get(sock, option.number)
            if value is not None and value != option.default:
                setattr(entry, option.field, value if option.default == -1 else value & _MASK)
        on, seconds = _LINGER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
        if on:
            entry.so_linger = seconds
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _DEVICE_NAME).rstrip(b"\0")
        if device:
            set_text(entry, "so_bound_dev", device.decode(errors="surrogateescape"))
        if _get(sock, _SO_LOCK_FILTER):
            entry.so_lock_filter = True
    for code, jt, jf, k in _INSTRUCTION.iter_unpack(get_filter(fd)):
        entry.so_filter.append(code << 48 | jt << 40 | jf << 32 | k)


def _get(sock: socket.socket, number: int) -> int | None:
    """The value of an option, None when the socket, or the kernel, does not have it."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, number)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def restore(fd: int, entry: Message) -> None:
    """Give a socket the options of a sk_opts_entry, when it has its queue and its connections already: some options
    change what sending and connecting do (SO_PASSCRED gives a name to a socket that has none).

    What is as it should be already is not set: options that a family lacks can't be, and need not be.
    """
    with borrowed(fd) as sock:
        for field, number, force in _BUFFERS:
            size = getattr(entry, field)
            if sock.getsockopt(socket.SOL_SOCKET, number) != size:
                sock.setsockopt(socket.SOL_SOCKET, force, size // 2)
        for direction, number in _TIMEOUTS:
            seconds, microseconds = (getattr(entry, f"so_{direction}_tmo_{unit}") for unit in ("sec", "usec"))
            if seconds or microseconds:
                sock.setsockopt(socket.SOL_SOCKET, number, _TIMEVAL.pack(seconds, microseconds))
        for option in _OPTIONS:
            if entry.HasField(option.field):
                _set(sock, option.field, option.number, int(getattr(entry, option.field)))
        if entry.HasField("so_linger"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, entry.so_linger))
        if entry.HasField("so_bound_dev"):
            name = get_text(entry.so_bound_dev).encode(errors="surrogateescape")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name[: _DEVICE_NAME - 1] + b"\0")
        if entry.so_filter:
            _attach_filter(fd, entry)
        if entry.so_lock_filter:
            sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def _set(sock: socket.socket, field: str, number: int, value: int) -> None:
    try:
        word = _WORD.pack(value & _MASK)
        if sock.getsockopt(socket.SOL_SOCKET, number, _WORD.size) != word:
            sock.setsockopt(socket.SOL_SOCKET, number, word)
    except OSError as error:
        raise CrError(f"a socket can't have its option {field}={value}: {error.strerror}") from error


def _attach_filter(fd: int, entry: Message) -> None:
    if len(entry.so_filter) > _MOST_INSTRUCTIONS:
        raise CrError(f"a socket's filter of {len(entry.so_filter)} instructions is longer than any can be")
    words = [(w >> 48, w >> 40 & 0xFF, w >> 32 & 0xFF, w & 0xFFFFFFFF) for w in entry.so_filter]
    attach_filter(fd, b"".join(_INSTRUCTION.pack(*word) for word in words))
