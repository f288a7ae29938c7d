"""Connections that nobody has accepted, as the kernel's memory shows them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from engine.kernel.kernel_memory import kernel_memory
from engine.kernel.unix_waiting import WaitingConnection, waiting_connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = b"\0test of waiting connections %d" % os.getpid()


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["stream", "seqpacket"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, request.param) as new:
        new.bind(NAME)
        new.listen(9)
        yield new


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Callable[[], socket.socket]]:
    clients: list[socket.socket] = []

    def make() -> socket.socket:
        clients.append(socket.socket(socket.AF_UNIX, listener.type))
        clients[-1].bind(NAME + b" client %d" % len(clients))
        clients[-1].connect(NAME)
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def data_of(connection: WaitingConnection) -> bytes:
    return b"".join(packet.data for packet in connection.packets)


def test_order_and_data(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    large = os.urandom(100_000)
    for data in (b"one", b"", large):
        client = connect()
        if data:
            client.send(data)
    seen = waiting_connections(listener.fileno())
    assert [connection.name for connection in seen] == [NAME + b" client %d" % number for number in (1, 2, 3)]
    assert [data_of(connection) for connection in seen] == [b"one", b"", large]
    assert not any(connection.out_of_band for connection in seen)
    assert waiting_connections(listener.fileno()) == seen, "looking has changed something"


def test_nothing_waits(listener: socket.socket) -> None:
    assert waiting_connections(listener.fileno()) == []


def test_who_connected(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    connect().send(b"x")
    (seen,) = waiting_connections(listener.fileno())
    assert seen.creds == (os.getpid(), os.geteuid(), os.getegid())


def test_ends_of_data(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    connect().shutdown(socket.SHUT_WR)
    connect().close()
    assert [connection.shutdown for connection in waiting_connections(listener.fileno())] == [1, 3]


def test_descriptors(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    reader, writer = os.pipe()
    socket.send_fds(connect(), [b"x"], [reader, writer])
    (seen,) = waiting_connections(listener.fileno())
    assert seen.packets[0].files == [kernel_memory().file(fd) for fd in (reader, writer)]
    os.close(reader)
    os.close(writer)
