"""Connections that nobody has accepted yet: their order, what has been sent over them, what is refused."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, NoReturn

import pytest

from engine.errors import Refused
from engine.kernel import unix_waiting
from tests.objects.unix_sockets import STREAM, carry_over, close, unix

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle

pytestmark = pytest.mark.usefixtures("look_into_the_kernel")

_NAME = b"\0crucible test listener %d" % os.getpid()
"""Whoever shares our net namespace sees it: other workers, too."""


def test_waiting_connections_keep_their_order(cycle: Cycle) -> None:
    name = _NAME
    listener = unix(STREAM, name)
    listener.listen(3)
    clients = [unix(STREAM, b"%s of client %d" % (_NAME, n)) for n in range(3)]
    order = [clients[n] for n in (2, 0, 1)]
    for client in order:
        client.connect(name)
    names = [client.getsockname() for client in order]
    listener, *clients = carry_over(cycle, listener, *clients)
    accepted = [listener.accept() for _ in clients]
    assert [address for _, address in accepted] == names
    close(listener, *clients, *(sock for sock, _ in accepted))


def test_backlog_smaller_than_the_queue(cycle: Cycle) -> None:
    name = _NAME
    listener = unix(STREAM, name)
    listener.listen(3)
    clients = [unix(STREAM) for _ in range(3)]
    for client in clients:
        client.connect(name)
    listener.listen(0)
    listener, *clients = carry_over(cycle, listener, *clients)
    with unix(STREAM) as one_more:
        one_more.setblocking(False)
        with pytest.raises(BlockingIOError):
            one_more.connect(name)
    close(listener, *clients)


def test_waiting_connection_with_data_that_cannot_be_seen(cycle: Cycle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_waiting, "waiting_connections", _no_bpf)
    with unix(STREAM, _NAME) as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        client.send(b"x")
        with pytest.raises(Refused, match="an in-flight connection, not accepted yet, has data in it.*not permitted"):
            cycle.dump(listener.fileno(), client.fileno())


def test_waiting_connection_of_a_closed_client_that_cannot_be_seen(
    cycle: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_waiting, "waiting_connections", _no_bpf)
    with unix(STREAM, _NAME) as listener:
        listener.listen()
        with unix(STREAM) as client:
            client.connect(listener.getsockname())
        with pytest.raises(Refused, match="is closed at the client's end.*not permitted"):
            cycle.dump(listener.fileno())


def test_waiting_connection_without_data_needs_no_look_into_the_kernel(
    cycle: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_waiting, "waiting_connections", _no_bpf)
    listener, client = unix(STREAM, _NAME), unix(STREAM)
    listener.listen()
    client.connect(listener.getsockname())
    listener, client = carry_over(cycle, listener, client)
    accepted, _ = listener.accept()
    client.send(b"x")
    assert accepted.recv(9) == b"x"
    close(listener, client, accepted)


def _no_bpf(_fd: int) -> NoReturn:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_waiting_connection_with_an_urgent_byte(cycle: Cycle) -> None:
    with unix(STREAM, _NAME) as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        client.send(b"x", socket.MSG_OOB)
        with pytest.raises(Refused, match="not accepted yet, has out-of-band data"):
            cycle.dump(listener.fileno(), client.fileno())


def test_waiting_connection_with_a_descriptor_that_nobody_has(cycle: Cycle) -> None:
    with unix(STREAM, _NAME) as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        with open("/dev/null") as file:
            socket.send_fds(client, [b"x"], [file.fileno()])
        with pytest.raises(Refused, match="holds a descriptor that no task has open"):
            cycle.dump(listener.fileno(), client.fileno())


@pytest.mark.parametrize("clients", [[7], [0, 0, 4711]])
def test_waiting_connections_that_cannot_be(cycle: Cycle, clients: list[int]) -> None:
    with unix(STREAM, _NAME) as listener:
        listener.listen()
        cycle.dump(listener.fileno())
        (entry,) = cycle.dump_context.entries
        for client in clients:
            entry.usk.waiting.add(client=client)
        with pytest.raises(Refused, match="has connections waiting that can't be"):
            cycle.check()


def test_waiting_connection_from_elsewhere(cycle: Cycle) -> None:
    with unix(STREAM, _NAME) as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        with pytest.raises(Refused, match="not accepted yet, is of socket .*, which is not in the tree"):
            cycle.dump(listener.fileno())
