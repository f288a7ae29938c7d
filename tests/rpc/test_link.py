"""Whatever comes over a connection: it is answered or ended, and nothing else happens."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import places
from engine.errors import CrError
from engine.images.schema import enum, message
from engine.options import Options
from engine.rpc import requests
from engine.rpc.client import Client as Caller
from engine.rpc.link import Link
from engine.rpc.session import Session
from zdtm.harness.rpc import Client, request

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES = enum("criu_req_type")


def talk(*packets: bytes) -> tuple[int | None, list[Any]]:
    """The status of a session with these packets, None if it raised what a command reports, and its answers."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Client(ours) as client:
        for packet in packets:
            ours.send(packet)
        ours.shutdown(socket.SHUT_WR)
        status: int | None = None
        try:
            status = Session(Link(its), Options(), _no_work, in_service=True, patience=5).serve()
        except CrError:
            pass
        answers = []
        while True:
            try:
                answers.append(client.receive()[0])
            except ConnectionResetError:
                continue  # told first when requests were left unread
            except EOFError:
                return status, answers


def _no_work(opts: Options) -> Any:
    """Options have been understood, and that was all."""

    def run(_work: Any) -> int:
        raise CrError(f"{opts.command} is not done here")

    return run


@pytest.fixture(autouse=True)
def _touch_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Directories and logs are not gone to."""
    monkeypatch.setattr(places, "settle", lambda opts: None)
    monkeypatch.setitem(requests.REQUESTS, "CHECK", requests.INVALID)
    for kind in ("CPUINFO_DUMP", "CPUINFO_CHECK"):
        monkeypatch.setitem(requests.REQUESTS, kind, requests.INVALID)
    here = os.getcwd()
    yield
    assert os.getcwd() == here


def _judge(status: int | None, answers: list[Any], asked: int) -> None:
    assert len(answers) <= asked
    for answer in answers:
        assert answer.IsInitialized()
        assert answer.success or (answer.cr_errno and answer.cr_errmsg)
        assert len(answer.SerializeToString()) < 1024
    assert status is None or status in (0, 1, 255)


_quick = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_quick
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3))
def test_rubbish(packets: list[bytes]) -> None:
    _judge(*talk(*packets), len(packets))


_values = {
    "TYPE_STRING": st.text(max_size=40) | st.sampled_from(["/etc/passwd", "../x", "net[5]:x", "a\0b", "-", ""]),
    "TYPE_BOOL": st.booleans(),
    "TYPE_INT32": st.integers(-(2**31), 2**31 - 1),
    "TYPE_UINT32": st.integers(0, 2**32 - 1),
    "TYPE_ENUM": st.integers(0, 9),
}


@st.composite
def _messages(draw: st.DrawFn, name: str) -> Any:
    """Any message, with some of its fields set to anything."""
    found = message(name)()
    for field in found.DESCRIPTOR.fields:
        if not (field.is_required or draw(st.integers(0, 6)) == 0):
            continue
        count = draw(st.integers(0, 3)) if field.is_repeated else 1
        for _ in range(count):
            if field.message_type is not None:
                value = draw(_messages(field.message_type.name))
                if field.is_repeated:
                    getattr(found, field.name).append(value)
                else:
                    getattr(found, field.name).CopyFrom(value)
                continue
            kind = next(name for name in _values if getattr(field, name) == field.type)
            value = draw(_values[kind])
            if field.enum_type is not None:
                value = draw(st.sampled_from([each.number for each in field.enum_type.values]))
            if field.is_repeated:
                getattr(found, field.name).append(value)
            else:
                setattr(found, field.name, value)
    return found


@_quick
@given(st.lists(_messages("criu_req"), min_size=1, max_size=3))
def test_requests_of_any_content(asked: list[Any]) -> None:
    """And each is answered, or ends the connection because of what it says about keeping it."""
    for each in asked:
        each.ClearField("pid")
    status, answers = talk(*(each.SerializeToString() for each in asked))
    _judge(status, answers, len(asked))
    assert answers or status is None


@_quick
@given(_messages("criu_req"), st.data())
def test_half_and_damaged_requests(asked: Any, data: st.DataObject) -> None:
    packet = bytearray(asked.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    packet = packet[: data.draw(st.integers(1, len(packet)))]
    _judge(*talk(bytes(packet)), 1)


def test_a_long_message_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> int:
        raise CrError("ä" * 5000)

    monkeypatch.setitem(requests.REQUESTS, "VERSION", requests.Request(fail, "VERSION", anybody=True))
    _, [answer] = talk(request("VERSION").SerializeToString())
    assert answer.cr_errmsg.endswith("ä … (all of it is in the log)")
    assert 600 < len(answer.cr_errmsg.encode()) <= requests.LONGEST_TEXT


def test_numbers_of_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that says more than that it failed."""

    def fail(_: Any) -> int:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise CrError("it can't be written") from error

    monkeypatch.setitem(requests.REQUESTS, "VERSION", requests.Request(fail, "VERSION", anybody=True))
    _, [answer] = talk(request("VERSION").SerializeToString())
    assert (answer.cr_errno, answer.cr_errmsg) == (28, "it can't be written")


def test_the_master_of_a_terminal_is_handed_over() -> None:
    """A notification with a descriptor."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Client(ours) as client:
        link = Link(its)
        caller = Caller(link, request("RESTORE", {"orphan_pts_master": True}).opts, lambda _pid: None)
        assert caller.orphan_pts_master
        client.send(request("NOTIFY", notify_success=True))
        reader, writer = os.pipe()
        assert caller.hand_over_master(writer)
        os.close(writer)
        question, fd = client.receive()
        assert (question.type, question.notify.script) == (_TYPES["NOTIFY"], "orphan-pts-master")
        os.write(fd, b"same pipe")
        assert os.read(reader, 20) == b"same pipe"
        os.close(reader)
        os.close(fd)
        link.close()
