"""Nobody is waited for without end, and whatever becomes of a connection is said."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.transport.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PEER = "the page server at nowhere"


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, its = socket.socketpair()
    yield Channel(ours, _PEER, patience=0.05), its
    ours.close()
    its.close()


@pytest.mark.parametrize(
    ("attempt", "what"),
    [
        (lambda channel: channel.send(bytes(1 << 24)), "takes"),
        (lambda channel: channel.receive(1), "says"),
    ],
)
def test_a_peer_that_stalls(ends: tuple[Channel, socket.socket], attempt: Callable[[Channel], None], what: str) -> None:
    with pytest.raises(CrError, match=f"{_PEER} {what} nothing any more, 0.05 seconds were waited"):
        attempt(ends[0])


def test_a_peer_that_has_gone(ends: tuple[Channel, socket.socket]) -> None:
    channel, its = ends
    its.sendall(b"abc")
    its.close()
    with pytest.raises(CrError, match=f"the connection to {_PEER} has failed: Broken pipe"):
        channel.send(b"more")
    with pytest.raises(CrError, match=f"{_PEER} has ended the connection, 2 bytes too early"):
        channel.receive(5)


def test_a_part_of_a_file(ends: tuple[Channel, socket.socket], tmp_path: Path) -> None:
    channel, its = ends
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    channel.send_file(fd, 3, 5)
    assert its.recv(100) == b"34567"
    with pytest.raises(EOFError):
        channel.send_file(fd, 8, 5)
    os.close(fd)
