"""A live process moves between two net namespaces, over a link that may be bad, or cut half-way."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo import subject
from demo.machines import joined
from demo.moves import PATIENCE_SECONDS, Journey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MEBIBYTES = 4
_TICKS_FOR_ALL = (_MEBIBYTES << 8) // subject.PAGES_A_TICK
_CUT_SECONDS = 2
"""After which a link counts as cut."""
_SIGNS = ("TracerPid", "SigPnd", "SigBlk", "SigIgn", "SigCgt")
WAYS = ("by_proxy_and_cache", "by_page_server")


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    with joined() as (here, there):
        journey = Journey(here, there, tmp_path)
        journey.start(_MEBIBYTES)
        journey.forget_downtime()
        yield journey


@pytest.mark.parametrize("percent_lost", [0, 1])
@pytest.mark.parametrize("way", WAYS)
def test_moves(journey: Journey, way: str, percent_lost: int, record_property: Callable[[str, object], None]) -> None:
    """It finds all its memory as it left it."""
    here, there = journey.here, journey.there
    if percent_lost:
        here.lose(percent_lost)
        there.lose(percent_lost)
    commands = getattr(journey, way)()
    assert [command.wait(PATIENCE_SECONDS) for command in commands] == [0, 0]
    notes = journey.await_ticks(_TICKS_FOR_ALL)
    downtime = f"{notes.downtime * 1000:.0f} ms"
    print(f"{way}, {percent_lost} % lost: away for {downtime}")
    record_property("downtime", downtime)
    assert not notes.wrong
    assert not journey.is_on(here)
    home = there.namespace("net")
    assert home != here.namespace("net")
    assert there.namespace("net", there.pids()[notes.pid]) == home
    assert there.received() > _MEBIBYTES << 20
    assert here.resent() or not percent_lost
    images = {image.name for image in journey.place.glob("**/*.img")}
    assert not images if way == "by_proxy_and_cache" else f"core-{notes.pid}.img" in images


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("by_proxy_and_cache", r"image cache at 10\.77\.0\.2 port 9996 ((takes|says) nothing any more|has failed: )"),
        ("by_page_server", r"the connection to the client at 10\.77\.0\.2 port \d+ has failed: "),
    ],
    ids=WAYS,
)
def test_link_cut_half_way(journey: Journey, way: str, message: str) -> None:
    """The process goes on where it was, and nowhere else."""
    here, there = journey.here, journey.there
    here.limit(megabits=20)
    before = _look(here.pids()[journey.notes.pid])
    giving, taking = getattr(journey, way)("--remote-timeout", str(_CUT_SECONDS))
    journey.wait_until(lambda: there.received() > _MEBIBYTES << 19 or giving.poll() is not None, "half of it is there")
    assert giving.poll() is None, journey.log(here, "dump")
    there.cut()
    cut = time.monotonic()
    assert [command.wait(PATIENCE_SECONDS) for command in (giving, taking)] == [1, 1]
    assert time.monotonic() - cut < 10 * _CUT_SECONDS
    assert re.search(f"Error .*{message}", journey.log(here, "dump")), journey.log(here, "dump")
    notes = journey.await_ticks(_TICKS_FOR_ALL)
    assert not notes.wrong
    assert journey.is_on(here)
    assert _look(here.pids()[notes.pid]) == before
    assert not journey.is_on(there)


def _look(pid: int) -> tuple[list[str], list[str], list[str]]:
    """What an engine could leave on a process: descriptors, a tracer, blocked signals, and code."""
    task = Path(f"/proc/{pid}")
    descriptors = sorted(f"{fd.name} {fd.readlink()}" for fd in (task / "fd").iterdir())
    status = [line for line in (task / "status").read_text().splitlines() if line.startswith(_SIGNS)]
    code = [line for line in (task / "maps").read_text().splitlines() if " r-x" in line]
    return descriptors, status, code
