"""How the two sides of a page server find each other: options become a connection."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.option import EBADRQC
from engine.transport.channel import Channel, notice_death

if TYPE_CHECKING:
    from engine.options import Options

_PAGE_SERVER = "the page server"
_CONNECT_SECONDS = 10


def connect(opts: Options) -> Channel:
    """The connection to the page server of --address and --port, or of --ps-socket. Raises CrError."""
    if opts.ps_socket >= 0:
        return _client(opts, given(opts.ps_socket), f"{_PAGE_SERVER} at descriptor {opts.ps_socket}")
    if opts.address is None or not opts.port:
        raise CrError("--page-server needs --address and --port, or --ps-socket, to say where it is", EBADRQC)
    peer = f"{_PAGE_SERVER} at {opts.address} port {opts.port}"
    try:
        sock = socket.create_connection((opts.address, opts.port), _CONNECT_SECONDS)
    except OSError as error:
        raise CrError(f"{peer} can't be reached: {error.strerror or error} (is it running there?)") from error
    return _client(opts, sock, peer)


def _client(opts: Options, sock: socket.socket, peer: str) -> Channel:
    return _channel(opts, sock, peer, opts.remote_timeout, opts.remote_timeout)


def listen(opts: Options) -> socket.socket:
    """A socket at --address, of every interface if there is none, and --port, any free one if it is 0."""
    address, port = opts.address, opts.port or 0
    try:
        if address is None:
            return _listen_everywhere(port)
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address, port), family=family, backlog=1)
    except OSError as error:
        where = f"{address or 'any address'} port {port}"
        raise CrError(f"{_PAGE_SERVER} can't listen at {where}: {error.strerror or error}") from error


def _listen_everywhere(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=1, dualstack_ipv6=True)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return socket.create_server(("", port), backlog=1)


def given(number: int) -> socket.socket:
    """--ps-socket. Raises CrError."""
    try:
        sock = socket.socket(fileno=os.dup(number))
        sock.getpeername()
    except OSError as error:
        raise CrError(f"--ps-socket {number}: {error.strerror}", EBADRQC) from None
    if sock.type != socket.SOCK_STREAM:
        raise CrError(f"--ps-socket {number} is not a stream socket", EBADRQC)
    return sock


def accept(opts: Options, server: socket.socket, patience: float, death_seconds: float) -> Channel:
    """The client's connection: the one that was given, or the first that comes. The socket listens no longer.

    patience       seconds that the client may say nothing while its machine is there
    death_seconds  after how many without any sign of the machine it counts as gone
    """
    if opts.ps_socket >= 0:
        return _channel(opts, server, "the client", patience, death_seconds, is_server=True)
    with server:
        server.setblocking(True)
        sock, who = server.accept()
    return _channel(opts, sock, f"the client at {who[0]} port {who[1]}", patience, death_seconds, is_server=True)


def name_of(server: socket.socket) -> str:
    """Where a socket listens, for people."""
    address, port = server.getsockname()[:2]
    return f"{address} port {port}"


def _channel(
    opts: Options, sock: socket.socket, peer: str, patience: float, death_seconds: float, is_server: bool = False
) -> Channel:
    sock.set_inheritable(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        notice_death(sock, death_seconds)
    if opts.tls:
        from engine.transport import tls

        return tls.channel(opts, sock, peer, patience, is_server)
    return Channel(sock, peer, patience)
