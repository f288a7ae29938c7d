"""Move a living process from one network namespace to another, in two ways, and cut the link half-way once.

It says how long the process was away: no tick of it was seen in that time, by the process itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from demo.machines import joined
from demo.moves import PATIENCE_SECONDS, Journey
from demo.subject import PAGES_A_TICK

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.moves import Command

_MEBIBYTES = 32
_MEGABITS = 200
_PERCENT_LOST = 1
_CUT_SECONDS = "3"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="crucible-move-") as place:
        on_the_way(Path(place, "1"), "By image proxy and image cache: no image touches a disk", by_proxy_and_cache)
        on_the_way(Path(place, "2"), "By page server: it goes on before its memory has come", by_page_server)
        on_the_way(Path(place, "3"), "The same, and half-way the link is cut", with_the_link_cut)
    return 0


def on_the_way(place: Path, title: str, move: Callable[[Journey], None]) -> None:
    """Two machines and a process for one move."""
    print(f"\n{title}")
    place.mkdir()
    with joined() as (here, there):
        for machine in here, there:
            machine.limit(_MEGABITS)
            machine.lose(_PERCENT_LOST)
        print(
            f"    here {here.address}, {here.namespace('net')}    there {there.address}, {there.namespace('net')}\n"
            f"    joined by a veth pair with {_MEGABITS} Mbit/s, which loses {_PERCENT_LOST} % of all packets"
        )
        journey = Journey(here, there, place, lambda command: print(f"    {command}", flush=True))
        journey.start(_MEBIBYTES)
        show(journey)
        journey.forget_downtime()
        move(journey)


def by_proxy_and_cache(journey: Journey) -> None:
    started = time.monotonic()
    expect(journey, journey.by_proxy_and_cache(), 0)
    show_arrival(journey, started)


def by_page_server(journey: Journey) -> None:
    started = time.monotonic()
    expect(journey, journey.by_page_server(), 0)
    show_arrival(journey, started)


def with_the_link_cut(journey: Journey) -> None:
    commands = journey.by_page_server("--remote-timeout", _CUT_SECONDS)
    journey.wait_until(lambda: journey.there.received() > _MEBIBYTES << 19, "half of it is there")
    journey.there.cut()
    print("    … the link is down", flush=True)
    cut = time.monotonic()
    expect(journey, commands, 1)
    for machine, verb in (journey.there, "lazy-pages"), (journey.here, "dump"):
        for line in journey.log(machine, verb).splitlines():
            if "Error (" in line:
                print(f"    {machine.name}: {line}")
    journey.await_ticks(1)
    print(f"    {time.monotonic() - cut:.1f} s after the cut it goes on")
    show(journey)


def expect(journey: Journey, commands: tuple[Command, Command], status: int) -> None:
    """The commands of a move end with a status, or this demo does."""
    if any(command.wait(PATIENCE_SECONDS) != status for command in commands):
        raise SystemExit(f"demo failed:\n{journey.log(journey.here, 'dump')}")


def show_arrival(journey: Journey, started: float) -> None:
    taken = time.monotonic() - started
    downtime = show(journey)
    print(f"    away for {downtime * 1000:.0f} ms; {taken * 1000:.0f} ms from the first command to the end of the last")


def show(journey: Journey) -> float:
    """Where the process is when it has seen all its memory. Returns its longest time between two ticks, in seconds."""
    notes = journey.await_ticks((_MEBIBYTES << 8) // PAGES_A_TICK)
    machine = next(machine for machine in (journey.here, journey.there) if journey.is_on(machine))
    home = machine.namespace("net", machine.pids()[notes.pid])
    print(f"    It ticks {machine.name}, in {home}: pid {notes.pid}, tick {notes.ticks}, wrong pages {notes.wrong}")
    if notes.wrong:
        raise SystemExit("demo failed: its memory is not what it was")
    return notes.downtime


if __name__ == "__main__":
    sys.exit(main())
