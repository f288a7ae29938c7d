"""Unix stream sockets that are found by name."""

from __future__ import annotations

import socket

from zdtm.lib.program import equal


def listener(name: str) -> socket.socket:
    """A socket that listens at a name."""
    new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new.bind(name)
    new.listen(1)
    return new


def talk(server: socket.socket, name: str) -> None:
    """Whoever connects to this name must reach the server."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(name)
    accepted, _ = server.accept()
    client.send(b"found you")
    equal(accepted.recv(64), b"found you", f"data sent to {name}")
