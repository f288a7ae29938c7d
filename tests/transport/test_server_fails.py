"""The disk of a page server is full, or it is killed: the tree whose pages it was to take runs on, and the next attempt
finds nothing in its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import subjects
from engine.images.runs import PRESENT
from tests.disk import leave
from tests.increment.subject import content
from tests.transport.conftest import PAGE, Served, end, opening, run_of, serve, start_dump, state_of
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
