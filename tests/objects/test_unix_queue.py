"""Queues of unix sockets: looking without taking, and sending again what was seen."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from engine.kernel.kcmp import EQUAL, KCMP_FILE, kcmp
from engine.objects.unix_creds import Creds
from engine.objects.unix_peek import Received, peek
from engine.objects.unix_queue import RestoredMessage, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.objects.conftest import Cycle

Pair = tuple[socket.socket, socket.socket]

PACKETS = (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
SO_PEEK_OFF = 42
LARGE = 200_000


@pytest.fixture(params=[socket.SOCK_STREAM, *PACKETS], ids=["stream", "dgram", "seqpacket"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """(sender, receiver)."""
    ends = socket.socketpair(socket.AF_UNIX, request.param)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def stream() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    yield ends
    for end in ends:
        end.close()


def look(sock: socket.socket) -> list[tuple[bytes, int]]:
    """(data, number of descriptors) of all that waits."""
    seen = list(peek(sock))
    for item in seen:
        item.close()
    return [(item.data, len(item.fds)) for item in seen]


def received(sock: socket.socket, size: int = 1 << 20) -> tuple[bytes, int]:
    data, fds, _, _ = socket.recv_fds(sock, size, 16, socket.MSG_DONTWAIT)
    for fd in fds:
        os.close(fd)
    return data, len(fds)


def is_same(one: int, other: int) -> bool:
    return kcmp(os.getpid(), os.getpid(), KCMP_FILE, one, other) == EQUAL


def test_empty_queue(pair: Pair) -> None:
    assert look(pair[1]) == []


def test_peek_takes_nothing(pair: Pair) -> None:
    for data in (b"one", b"two"):
        pair[0].send(data)
    assert look(pair[1]) == look(pair[1])
    whole = b"".join(data for data, _ in look(pair[1]))
    taken = received(pair[1])[0]
    if pair[1].type != socket.SOCK_STREAM:
        taken += received(pair[1])[0]
    assert taken == whole == b"onetwo"


def test_peek_keeps_the_offset(pair: Pair) -> None:
    pair[0].send(b"abcdef")
    pair[1].setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 2)
    assert look(pair[1]) == [(b"abcdef", 0)]
    assert pair[1].getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF) == 2
    assert pair[1].recv(64, socket.MSG_PEEK) == b"cdef"


@pytest.mark.parametrize("kind", PACKETS)
def test_boundaries(kind: socket.SocketKind) -> None:
    messages = [b"a", b"", b"bb", bytes(LARGE), b"", b"", b"c"]
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGE)
        for data in messages:
            left.send(data)
        assert look(right) == [(data, 0) for data in messages]


def test_message_larger_than_the_buffer() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, 32, 4 << 20)  # SO_SNDBUFFORCE
        for data in (b"before", bytes(range(256)) * 6000, b"after"):
            left.send(data)
        assert [len(data) for data, _ in look(right)] == [6, 256 * 6000, 5]


def test_empty_messages_before_the_end() -> None:
    """What is at the end of a connection can't be told from it; what is before a message can."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with right:
        for data in (b"", b"x", b"", b"", b"y"):
            left.send(data)
        left.close()
        assert look(right) == [(b"", 0), (b"x", 0), (b"", 0), (b"", 0), (b"y", 0)]


def test_stream_is_cut_at_descriptors(stream: Pair) -> None:
    left, right = stream
    left.send(b"be")
    left.send(b"fore")
    socket.send_fds(left, [b"with"], [0, 1])
    socket.send_fds(left, [b"again"], [2])
    left.send(b"after")
    expected = [(b"before", 0), (b"with", 2), (b"again", 1), (b"after", 0)]
    assert look(right) == expected
    assert [received(right, len(data)) for data, _ in expected] == expected


def test_large_packet_with_descriptors(stream: Pair) -> None:
    """It takes more than one read, each of which brings the descriptors."""
    left, right = stream
    left.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)  # SO_SNDBUFFORCE
    socket.send_fds(left, [bytes(1 << 20)], [0])
    left.send(b"after")
    assert sum(fds for _, fds in look(right)) == 1
    assert sum(len(data) for data, _ in look(right)) == (1 << 20) + 5


def test_half_read_stream(stream: Pair) -> None:
    left, right = stream
    left.send(b"half read")
    socket.send_fds(left, [b"descriptors"], [0])
    assert right.recv(5) == b"half "
    assert look(right) == [(b"read", 0), (b"descriptors", 1)]


def test_peek_leaves_a_reset_pending(stream: Pair) -> None:
    """Receiving beyond the end reports the error, and then it is gone."""
    left, right = stream
    left.send(b"last")
    right.send(b"unread")
    left.close()
    assert look(right) == [(b"last", 0)]
    assert right.recv(64) == b"last"
    with pytest.raises(ConnectionResetError):
        right.recv(64)


def test_descriptors_are_the_same_description(pair: Pair) -> None:
    reader, writer = os.pipe()
    socket.send_fds(pair[0], [b"x"], [reader])
    (item,) = peek(pair[1])
    assert is_same(item.fds[0], reader)
    item.close()
    os.close(reader)
    os.close(writer)


def test_credentials(pair: Pair) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    pair[0].send(b"mine")
    ucred = struct.pack("=iII", os.getpid(), 1, 2)
    pair[0].sendmsg([b"forged"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, ucred)])
    seen = [(item.data, item.creds) for item in peek(pair[1])]
    assert seen == [(b"mine", Creds(os.getpid(), 0, 0)), (b"forged", Creds(os.getpid(), 1, 2))]


def test_sender_names() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("")
        for name in (b"\0test unix queue", b""):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                if name:
                    client.bind(name)
                client.sendto(b"x", server.getsockname())
        assert [item.sender for item in peek(server)] == [b"\0test unix queue", b""]


def test_send_enlarges_the_buffer(pair: Pair) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    send(pair[0].fileno(), None, RestoredMessage(bytes(LARGE), [], b"", None), [])
    assert sum(len(data) for data, _ in look(pair[1])) == LARGE


def test_send_attaches_descriptors_once(stream: Pair) -> None:
    left, right = stream
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    send(left.fileno(), None, RestoredMessage(bytes(LARGE), [], b"", None), [0, 1])
    assert sum(fds for _, fds in look(right)) == 2


def test_passed_descriptors_are_known_by_kcmp(cycle: Cycle, stream: Pair) -> None:
    """A passed description that the task has too is dumped once; one that it has not becomes one more."""
    left, right = stream
    held, lost = os.pipe()
    socket.send_fds(left, [b"x"], [held, held])
    socket.send_fds(left, [b"y"], [lost])
    os.close(lost)
    cycle.dump(right.fileno(), left.fileno(), held)
    assert [file.link for file in cycle.dump_context.files].count(os.readlink(f"/proc/self/fd/{held}")) == 2
    with cycle.images.reader("SK_QUEUES") as reader:
        rights = [list(entry.scm[0].rights) for entry in reader]
    assert len(rights[0]) == 2
    assert rights[0][0] == rights[0][1] != rights[1][0]
    os.close(held)


def test_received_closes_its_descriptors() -> None:
    reader, writer = os.pipe()
    Received(b"", [reader, writer], b"", None, False).close()
    for fd in (reader, writer):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
