"""Where dump, image proxy, image cache and restore find each other: two unix sockets, and TCP between the machines.

    dump -- image-proxy.sock --> image-proxy -- address, port --> image-cache <-- image-cache.sock -- restore
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from engine import daemon
from engine.errors import CrError
from engine.transport.channel import notice_death
from engine.transport.frames import ImageLink

if TYPE_CHECKING:
    from engine.options import Options

PROXY_SOCKET, CACHE_SOCKET = "image-proxy.sock", "image-cache.sock"
_ADDRESS, _PORT = "127.0.0.1", 9996
_MODE = 0o600
_BACKLOG = 16
_LONGER = 2
"""How many times as long as a daemon waits for the other machine its own clients wait for it: it is to be heard when it
says that the link is cut."""


def connect_unix(opts: Options, default: str, who: str) -> ImageLink:
    """To the proxy, or to the cache. who: "the image proxy". CrError: nobody is there."""
    path = opts.remote_socket or default
    name = os.path.abspath(path)  # which may be longer than the name of a socket can be
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(opts.remote_timeout)
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise CrError(f"{who} is not to be reached at {name}: {error.strerror or error} (is it running?)") from error
    return _greeted(ImageLink(sock, f"{who} at {name}", _LONGER * opts.remote_timeout, takes_fds=True))


def connect_tcp(opts: Options) -> ImageLink:
    """To the cache of the other machine. CrError: it is not there."""
    address = _tcp_address(opts)
    where = f"the image cache at {address[0]} port {address[1]}"
    try:
        sock = socket.create_connection(address, opts.remote_timeout)
    except OSError as error:
        raise CrError(f"{where} is not to be reached: {error.strerror or error} (is it running?)") from error
    notice_death(sock, opts.remote_timeout)
    return _greeted(ImageLink(sock, where, opts.remote_timeout))


def _greeted(link: ImageLink) -> ImageLink:
    try:
        link.greet()
    except BaseException:
        link.close()
        raise
    return link


def listen_unix(opts: Options, default: str) -> tuple[socket.socket, str]:
    """The socket and the name to remove at the end. Only root may connect. CrError: it can't be had."""
    path = opts.remote_socket or default
    name = os.path.abspath(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        daemon.listen(sock, path, _MODE)
    except OSError as error:
        sock.close()
        raise CrError(f"the {opts.command} can't listen at {name}: {error.strerror or error}") from error
    return sock, name


def listen_tcp(opts: Options) -> socket.socket:
    """For proxies. CrError: the address or port can't be had."""
    host, port = _tcp_address(opts)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        raise CrError(f"the image cache can't listen at {host} port {port}: {error.strerror or error}") from error
    return sock


def _tcp_address(opts: Options) -> tuple[str, int]:
    return opts.address or _ADDRESS, _PORT if opts.port is None else opts.port
