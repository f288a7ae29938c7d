"""The disk of a page server is full, it is killed, or it loses the pages: the tree they are of runs on, and the next
attempt finds nothing in its way."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING

import pytest

from bench import subjects
from engine.images.runs import PRESENT
from engine.transport.channel import Channel
from engine.transport.protocol import HAS_PARENT, SIZE, STATUS, Command, PageMessage
from tests.disk import leave
from tests.increment.subject import content
from tests.transport.conftest import PAGE, Served, end, leading_to, opening, run_of, serve, start_dump, state_of
from tests.transport.remote import memory_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.increment.subject import Subject

_NR_PAGES = 4
_FULL = "No space left on device"


@pytest.mark.parametrize("room", range(_NR_PAGES + 2))
def test_room_for_so_many_pages(disk: Path, room: int) -> None:
    """Two page maps, the second of which needs no room but for itself."""
    served = Served(leave(disk, room * PAGE))
    try:
        served.say(opening(7), run_of(0x1000, _NR_PAGES, PRESENT), b"x" * (_NR_PAGES * PAGE))
        served.say(opening(8), run_of(0x1000, 1, PRESENT), b"x" * PAGE)
        served.close()
    except OSError:
        served.end()
    assert _FULL in str(served.problem)
    assert served.left() == []


def test_a_dump(subject: Subject, disk: Path, tmp_path: Path) -> None:
    """It fails with a hint to the server's log, and works when there is room again."""
    before = state_of(subject.process.pid)
    images = leave(disk, 1 << 20)
    server, options = serve(images)
    assert end(start_dump("dump", subject.process.pid, tmp_path / "failed", *options)) == 1
    assert end(server) == 1
    assert _FULL in (images / "page-server.log").read_text()
    assert "its log may say why" in (tmp_path / "failed/log").read_text()
    assert state_of(subject.process.pid) == before
    assert [path.name for path in images.iterdir()] == ["page-server.log"]
    (disk / "filler").unlink()
    server, options = serve(images)
    assert end(start_dump("dump", subject.process.pid, tmp_path / "works", "--leave-running", *options)) == 0
    assert end(server) == 0


@pytest.mark.parametrize("mebibytes", [0, 1, 20])
def test_killed_when_so_much_has_come(tmp_path: Path, mebibytes: int) -> None:
    images = tmp_path / "images"
    with subjects.running(subjects.memory(32)) as pid:
        before = state_of(pid)
        server, options = serve(images)
        dumping = start_dump("dump", pid, tmp_path / "failed", *options)
        wait_until(lambda: _size(images) >= mebibytes << 20, "so much has come")
        server.kill()
        assert end(dumping) == 1
        end(server)
        assert "the page server at 127.0.0.1" in (tmp_path / "failed/log").read_text()
        assert state_of(pid) == before
        server, options = serve(images)
        assert end(start_dump("dump", pid, tmp_path / "works", "--leave-running", *options)) == 0
        assert end(server) == 0
        pages = content(images, pid)
        for start, memory in memory_of(pid).items():
            for offset in range(0, len(memory), PAGE):
                assert pages.get(start + offset, bytes(PAGE)) == memory[offset : offset + PAGE]


def _size(images: Path) -> int:
    return sum(path.stat().st_size for path in images.glob("pages-*.img"))


@pytest.mark.parametrize(
    ("farewell", "why"), [(STATUS.pack(-5), r"\(status -5\); its log says why"), (b"", "has ended")]
)
def test_a_server_that_has_not_kept_the_pages(subject: Subject, tmp_path: Path, farewell: bytes, why: str) -> None:
    """It has taken all of them, and says at the end that they are lost, or nothing."""
    before = state_of(subject.process.pid)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dumping = start_dump("dump", subject.process.pid, tmp_path / "failed", *leading_to(listener.getsockname()[1]))
        _take_all(listener, farewell)
    assert end(dumping) == 1
    assert re.search(f"Error .*the page server at 127.0.0.1 port .*{why}", (tmp_path / "failed/log").read_text())
    assert [path.name for path in (tmp_path / "failed").iterdir()] == ["log"]
    assert state_of(subject.process.pid) == before


def _take_all(listener: socket.socket, farewell: bytes) -> None:
    """Do what a page server does, but keep nothing, and say this at the end."""
    channel = Channel(listener.accept()[0], "the client")
    with contextlib.closing(channel):
        while (message := PageMessage.decode(channel.receive(SIZE))).command != Command.CLOSE:
            if message.command == Command.OPEN2:
                channel.send(HAS_PARENT.pack(False))
            elif message.flags & PRESENT:
                channel.receive(message.nr_pages * PAGE)
        channel.send(farewell)
