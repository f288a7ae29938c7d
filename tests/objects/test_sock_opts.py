"""Options of sockets, dumped from one and given to another."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.images.schema import message
from engine.kernel.sockets import attach_filter, borrowed, get_filter
from engine.objects import sock_opts

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]

SO_BUF_LOCK, SO_LOCK_FILTER, SO_PEEK_OFF = 72, 44, 42
ACCEPT_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)
NUMBERS = {
    "so_priority": (socket.SO_PRIORITY, 3),
    "so_rcvlowat": (socket.SO_RCVLOWAT, 5),
    "so_mark": (socket.SO_MARK, 0x7FFFFFFF),
    "so_mark, sign bit": (socket.SO_MARK, -2),
    "reuseaddr": (socket.SO_REUSEADDR, 1),
    "so_passcred": (socket.SO_PASSCRED, 1),
    "so_passsec": (34, 1),
    "so_dontroute": (socket.SO_DONTROUTE, 1),
    "so_broadcast": (socket.SO_BROADCAST, 1),
    "so_keepalive": (socket.SO_KEEPALIVE, 1),
    "so_oobinline": (socket.SO_OOBINLINE, 1),
    "so_passpidfd": (76, 1),
    "so_peek_off": (SO_PEEK_OFF, 7),
    "so_timestamp": (29, 1),
    "so_timestampns": (35, 1),
    "so_sndbuf": (socket.SO_SNDBUF, 30000),
    "so_rcvbuf": (socket.SO_RCVBUF, 5000),
}


@pytest.fixture
def socks() -> Iterator[Pair]:
    """(one to dump, one to restore into)."""
    pair = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    yield pair
    for sock in pair:
        sock.close()


def carry_over(socks: Pair) -> socket.socket:
    entry = message("sk_opts_entry")()
    sock_opts.dump(socks[0].fileno(), entry)
    assert entry.IsInitialized()
    sock_opts.restore(socks[1].fileno(), entry)
    return socks[1]


@pytest.mark.parametrize(("option", "value"), NUMBERS.values(), ids=NUMBERS.keys())
def test_number(socks: Pair, option: int, value: int) -> None:
    old = socks[1].getsockopt(socket.SOL_SOCKET, option)
    socks[0].setsockopt(socket.SOL_SOCKET, option, value)
    expected = socks[0].getsockopt(socket.SOL_SOCKET, option)
    assert expected != old, "nothing to carry over"
    assert carry_over(socks).getsockopt(socket.SOL_SOCKET, option) == expected


def test_buffers_that_nobody_has_set_stay_unlocked(socks: Pair) -> None:
    socks[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100000)
    assert carry_over(socks).getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK) == 0
    assert socks[1].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == socks[0].getsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF
    )


@pytest.mark.parametrize("option", [socket.SO_SNDTIMEO, socket.SO_RCVTIMEO])
def test_timeout(socks: Pair, option: int) -> None:
    socks[0].setsockopt(socket.SOL_SOCKET, option, struct.pack("=qq", 3, 500000))
    assert carry_over(socks).getsockopt(socket.SOL_SOCKET, option, 16) == struct.pack("=qq", 3, 500000)


def test_linger(socks: Pair) -> None:
    socks[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    assert carry_over(socks).getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("=ii", 1, 0)


def test_filter(socks: Pair) -> None:
    program = struct.pack("=HBBI", 0x20, 1, 2, 0xFFFFF000) + ACCEPT_ALL
    attach_filter(socks[0].fileno(), program)
    socks[0].setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
    new = carry_over(socks)
    assert get_filter(new.fileno()) == program
    assert new.getsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER) == 1


def test_filter_in_the_image(socks: Pair) -> None:
    attach_filter(socks[0].fileno(), struct.pack("=HBBI", 0x15, 0, 1, 2) + 2 * ACCEPT_ALL)
    entry = message("sk_opts_entry")()
    sock_opts.dump(socks[0].fileno(), entry)
    assert entry.so_filter[0] == 0x15 << 48 | 0 << 40 | 1 << 32 | 2


def test_endless_filter(socks: Pair) -> None:
    entry = message("sk_opts_entry")()
    sock_opts.dump(socks[0].fileno(), entry)
    entry.so_filter.extend([0] * 5000)
    with pytest.raises(CrError, match="longer than any can be"):
        sock_opts.restore(socks[1].fileno(), entry)


def test_options_of_ours_are_written_when_they_say_something(socks: Pair) -> None:
    """Images of ordinary sockets have CRIU's fields only."""
    entry = message("sk_opts_entry")()
    sock_opts.dump(socks[0].fileno(), entry)
    assert [field.name for field, _ in entry.ListFields() if field.number > 1000] == []


def test_borrowed_stays_open_and_blocking(socks: Pair) -> None:
    with borrowed(socks[0].fileno()) as sock:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    assert socks[0].getblocking()
    socks[0].getsockname()
