"""Unix sockets for tests: made, carried over to the other side of a restore."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle


STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET


def dump(cycle: Cycle, *socks: socket.socket) -> None:
    """No stubs are here to connect with another task's credentials: those of a restore are the test's own."""
    cycle.dump(*(sock.fileno() for sock in socks))
    for entry in cycle.dump_context.entries:
        entry.usk.ClearField("peer_creds")
        for waiting in entry.usk.waiting:
            waiting.ClearField("creds")


def carry_over(cycle: Cycle, *socks: socket.socket) -> list[socket.socket]:
    """Dump sockets, close them, make them anew."""
    dump(cycle, *socks)
    for sock in socks:
        sock.close()
    return [socket.socket(fileno=os.dup(fd)) for fd in cycle.restore()[: len(socks)]]


def unix(kind: socket.SocketKind, name: str | bytes = "") -> socket.socket:
    new = socket.socket(socket.AF_UNIX, kind)
    if name:
        new.bind(name)
    return new


def close(*socks: socket.socket) -> None:
    for sock in socks:
        sock.close()
