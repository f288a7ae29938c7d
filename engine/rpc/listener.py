"""The socket at which a service is reached: one that it makes, or one that systemd has made for it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from engine import daemon
from engine.errors import CrError
from engine.option import EBADRQC

if TYPE_CHECKING:
    from engine.options import Options

DEFAULT_NAME = "criu_service.socket"
_MODE = 0o666  # anybody may ask; session.py says who gets what
_FIRST_PASSED = 3  # SD_LISTEN_FDS_START


class Listener(NamedTuple):
    """path: the name to remove at the end, None when it is not ours."""

    sock: socket.socket
    path: str | None

    def remove_name(self) -> None:
        if self.path is not None:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass  # somebody was faster


def open_listener(opts: Options) -> Listener:
    """The socket that we were started with, or else one at --address. Raises CrError."""
    passed = _passed()
    if passed is not None:
        return Listener(passed, None)
    name = opts.address or DEFAULT_NAME
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        daemon.listen(sock, name, _MODE)
    except OSError as error:
        raise CrError(f"the service can't listen at {os.path.abspath(name)}: {error.strerror or error}") from error
    return Listener(sock, os.path.abspath(name))


def _passed() -> socket.socket | None:
    """sd_listen_fds(3): LISTEN_FDS descriptors from 3 on, if LISTEN_PID is this process."""
    count = os.environ.pop("LISTEN_FDS", "")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise CrError(f"systemd has passed {count} sockets, the service takes one (ListenSequentialPacket=)", EBADRQC)
    sock = socket.socket(fileno=_FIRST_PASSED)
    is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if (sock.family, kind) != (socket.AF_UNIX, socket.SOCK_SEQPACKET) or not is_listening:
        raise CrError("the socket from systemd is none that ListenSequentialPacket= with a path makes", EBADRQC)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
