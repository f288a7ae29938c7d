"""Whoever has the pages of a lazy restore may lie, or break off: no page is taken that has not been asked for."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.images.runs import LAZY, PRESENT
from engine.lazy.remote import RemotePages
from engine.transport.channel import Channel
from engine.transport.protocol import SIZE, STATUS, Command, PageMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

_PID, _START, _NR_PAGES = 7, 0x10000, 4
_PAGE = 4096
_RIGHT = PageMessage(Command.ADD_F, PRESENT, _NR_PAGES, _START, _PID)


@contextlib.contextmanager
def _asked() -> Iterator[tuple[RemotePages, socket.socket]]:
    """A client that has asked for four pages, and the server's end, from which the question has been taken."""
    ours, its = socket.socketpair()
    channel = Channel(ours, "the page server", patience=20)
    with its, contextlib.closing(channel):
        remote = RemotePages(channel)
        remote.ask(_PID, _START, _START + _NR_PAGES * _PAGE)
        assert PageMessage.decode(its.recv(SIZE)) == PageMessage(Command.GET, 0, _NR_PAGES, _START, _PID)
        yield remote, its


@pytest.mark.parametrize(
    "answer",
    [
        _RIGHT._replace(command=Command.ADD),
        _RIGHT._replace(command=Command.GET),
        _RIGHT._replace(flags=LAZY),
        _RIGHT._replace(nr_pages=0),
        _RIGHT._replace(nr_pages=_NR_PAGES + 1),
        _RIGHT._replace(nr_pages=1 << 52),
        _RIGHT._replace(vaddr=_START + _PAGE),
        _RIGHT._replace(destination=_PID + 1),
    ],
)
def test_other_pages(answer: PageMessage) -> None:
    with _asked() as (remote, its):
        its.sendall(answer.encode() + bytes(_PAGE))
        with pytest.raises(CrError, match="the page server gives an answer that nobody has asked for"):
            remote.receive()


@pytest.mark.parametrize("size", [0, 1, SIZE, SIZE + 1, SIZE + _NR_PAGES * _PAGE - 1])
def test_an_end_amidst(size: int) -> None:
    with _asked() as (remote, its):
        its.sendall((_RIGHT.encode() + bytes(_NR_PAGES * _PAGE))[:size])
        its.close()
        with pytest.raises(CrError, match="the page server has ended the connection, [0-9]+ bytes too early"):
            remote.receive()


def test_fewer_pages() -> None:
    """The rest can be asked for again."""
    with _asked() as (remote, its):
        its.sendall(_RIGHT._replace(nr_pages=1).encode() + bytes(_PAGE))
        reply = remote.receive()
        assert reply
        assert (reply.pid, reply.start, reply.end) == (_PID, _START, _START + _PAGE)
        end = _START + _NR_PAGES * _PAGE
        assert remote.unasked(_PID, _START, end) == [(_START, end)]


def test_a_server_that_could_not_end() -> None:
    with _asked() as (remote, its):
        its.sendall(_RIGHT.encode() + bytes(_NR_PAGES * _PAGE) + STATUS.pack(-5))
        remote.receive()
        remote.take_leave(Command.CLOSE)
        with pytest.raises(CrError, match=r"could not bring its work to an end \(status -5\); its log says why"):
            remote.receive()
        assert not remote.is_over


_WORD = st.sampled_from([0, 1, _NR_PAGES, _START, _PID])
_COMMAND, _FLAGS = st.sampled_from([*Command, 99]), st.integers(0, 15)
_ANY = st.builds(PageMessage, _COMMAND, _FLAGS, _WORD, _WORD, _WORD).map(PageMessage.encode)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(_ANY, st.just(_RIGHT.encode()), st.binary(max_size=50)), max_size=5).map(b"".join))
def test_any_bytes(said: bytes) -> None:
    """They are the pages that were asked for, or refused in one sentence."""
    with _asked() as (remote, its):
        its.sendall(said)
        its.shutdown(socket.SHUT_WR)
        try:
            reply = remote.receive()
        except CrError as error:
            assert error.message.startswith("the page server ")
            return
        assert reply
        assert _START == reply.start < reply.end <= _START + _NR_PAGES * _PAGE
