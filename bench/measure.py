"""The measurements. Each yields rows as it goes.

Every figure is the best of several runs, since what disturbs a run only makes it slower; what is compared is measured
in turns, so that it is disturbed alike.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from bench import lazy, page_maps, page_server, subjects
from bench.engine import OURS, Engine, command, timed
from bench.rows import Row
from bench.service import running as running_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FROZEN_GOAL, START_GOAL, SPEED_GOAL = 5.0, 60.0, 0.8
SERVICE_GOAL = 15.0
SNAPSHOT_GOAL = 1 / 20
_MIB = 1 << 20


class Best:
    """The best times of one engine with one subject, in milliseconds."""

    def __init__(self) -> None:
        self.dump = self.frozen = self.restore = self.copy = math.inf

    def note(self, name: str, value: float) -> None:
        setattr(self, name, min(getattr(self, name), value))


class Bench:
    """What to measure with.

    other      a second engine, to compare with in the same run
    runs       of each measurement
    mebibytes  size of the large process
    divisor    for the sizes of all other subjects
    """

    def __init__(self, other: Engine | None = None, runs: int = 5, mebibytes: int = 1000, divisor: int = 1) -> None:
        self.other = other
        self.runs = runs
        self.mebibytes = mebibytes
        self.divisor = divisor

    @property
    def engines(self) -> list[Engine]:
        return [OURS, self.other] if self.other else [OURS]

    def cycles(self, subject: list[str], restore: bool = True, copy: bool = False) -> list[Best]:
        """Dump a subject, which runs on, and copy its pages, in turns; then dump it for good and restore it, in turns.

        restore, copy: whether to do these, too. Returns what each of self.engines took at best.
        """
        best = [Best() for _ in self.engines]
        with subjects.running(subject) as pid, tempfile.TemporaryDirectory(prefix="crucible-bench-") as images:
            for _ in range(self.runs):
                for engine, figures in zip(self.engines, best, strict=True):
                    figures.note("dump", engine.dump(pid, images, "-R"))
                    figures.note("frozen", engine.frozen(images))
                    if copy:
                        figures.note("copy", _copy(images))
            for _ in range(self.runs if restore else 0):
                for engine, figures in zip(self.engines, best, strict=True):
                    engine.dump(pid, images)
                    subjects.await_end(pid)
                    figures.note("restore", engine.restore(images))
        return best


def _copy(images: str) -> float:
    """cp of the pages file, in its own directory."""
    pages = max((entry.path for entry in os.scandir(images)), key=os.path.getsize)
    target = os.path.join(images, "copy")
    taken = timed(lambda: command(["cp", "--reflink=never", pages, target]))
    os.unlink(target)
    return taken


def small(bench: Bench) -> Iterator[Row]:
    """How long a small process stands still, and the whole commands."""
    for name, subject in (("sleep", subjects.sleep()), ("python", subjects.python())):
        ours, *others = bench.cycles(subject)
        note = f"dump -R {ours.dump:.0f} ms, restore {ours.restore:.0f} ms"
        yield Row(f"frozen time of {name}", ours.frozen, "ms", note, FROZEN_GOAL)
        yield from _compared(bench, f"frozen time of {name}", ours.frozen, [other.frozen for other in others])


def startup(bench: Bench) -> Iterator[Row]:
    """From the start of the command to its first act on a task, and what of it the interpreter takes alone."""
    bare = act = math.inf
    with subjects.running(subjects.sleep()) as pid, tempfile.TemporaryDirectory(prefix="crucible-bench-") as images:
        for _ in range(max(bench.runs, 10)):
            bare = min(bare, timed(lambda: command([sys.executable, "-c", "pass"])))
            act = min(act, OURS.first_act(pid, images))
    yield Row("start of dump to its first act", act, "ms", f"python -c pass {bare:.0f} ms", START_GOAL)


def service(bench: Bench) -> Iterator[Row]:
    """A small process dumped and restored by a service that is warm, from connecting to it to its answer."""
    best = Best()
    with (
        subjects.running(subjects.sleep()) as pid,
        tempfile.TemporaryDirectory(prefix="crucible-bench-") as images,
        running_service() as daemon,
    ):
        for _ in range(max(bench.runs, 10)):
            for verb, options in (("dump", {"pid": pid}), ("restore", {})):
                daemon.settle()
                best.note(verb, daemon.ask(verb.upper(), {"images_dir": images, **options}))
                if verb == "dump":
                    best.note("frozen", OURS.frozen(images))
                    subjects.await_end(pid)
    note = f"frozen {best.frozen:.1f} ms"
    yield Row("dump by a warm service", best.dump, "ms", note, SERVICE_GOAL)
    yield Row("restore by a warm service", best.restore, "ms", "", SERVICE_GOAL)


def big(bench: Bench) -> Iterator[Row]:
    """A large process against cp of the same bytes."""
    _warm_up(bench.mebibytes)
    size = f"{bench.mebibytes} MiB"
    ours, *others = bench.cycles(subjects.memory(bench.mebibytes), copy=True)
    note = f"cp {ours.copy:.0f} ms, dump -R {ours.dump:.0f} ms, frozen {ours.frozen:.0f} ms"
    yield Row(f"dump of {size}", ours.copy / ours.dump, "of cp's speed", note, SPEED_GOAL, more_is_better=True)
    yield from _compared(bench, f"dump of {size}", ours.dump, [other.dump for other in others])
    yield Row(f"restore of {size}", ours.copy / ours.restore, "of cp's speed", f"restore {ours.restore:.0f} ms")
    yield from _compared(bench, f"restore of {size}", ours.restore, [other.restore for other in others])


def parallel(bench: Bench) -> Iterator[Row]:
    """The same memory in one task and in four."""
    mebibytes = bench.mebibytes * 6 // 10
    (one, *_), (four, *_) = (bench.cycles(subjects.memory(mebibytes, tasks)) for tasks in (1, 4))
    note = f"{one.frozen:.0f} ms in one, {four.frozen:.0f} ms in four; {os.cpu_count()} processors"
    yield Row(f"dump of {mebibytes} MiB in four tasks", four.frozen / one.frozen, "of the time in one", note)
    note = f"{one.restore:.0f} ms in one, {four.restore:.0f} ms in four"
    yield Row(f"restore of {mebibytes} MiB in four tasks", four.restore / one.restore, "of the time in one", note)


def increments(bench: Bench) -> Iterator[Row]:
    """How long a large process stands still for its first pre-dump, for one that finds little changed, and for the dump
    that builds on it."""
    size = f"{bench.mebibytes} MiB"
    times: list[list[float]] = [[] for _ in range(4)]
    with subjects.running(subjects.memory(bench.mebibytes)) as pid:
        for _ in range(bench.runs):
            with tempfile.TemporaryDirectory(prefix="crucible-bench-") as place:
                directories = [os.path.join(place, str(number)) for number in range(4)]
                for directory in directories:
                    os.mkdir(directory)
                OURS.pre_dump(pid, directories[0])
                OURS.pre_dump(pid, directories[1], "--prev-images-dir=../0")
                OURS.dump(pid, directories[2], "-R", "--track-mem", "--prev-images-dir=../1")
                OURS.dump(pid, directories[3], "-R")
                for kind, directory in zip(times, directories, strict=True):
                    kind.append(OURS.frozen(directory))
    first, second, last, plain = map(min, times)
    note = f"plain dump {plain:.0f} ms"
    yield Row(f"frozen time of a pre-dump of {size}", first, "ms", note)
    yield Row("frozen time of the next one", second, "ms", note)
    yield Row("frozen time of a dump that builds on it", last, "ms", note)


def pages_sent(bench: Bench) -> Iterator[Row]:
    """Memory that goes to a page server."""
    yield from page_server.measure(bench.mebibytes // 2, bench.runs)


def snapshot(bench: Bench) -> Iterator[Row]:
    """How long a large process stands still when its twin writes its memory, against a plain dump."""
    plain = best = together = math.inf
    with subjects.running(subjects.memory(bench.mebibytes)) as pid:
        for _ in range(bench.runs):
            with tempfile.TemporaryDirectory(prefix="crucible-bench-") as images:
                OURS.dump(pid, images, "-R")
                plain = min(plain, OURS.frozen(images))
                together = min(together, OURS.dump(pid, images, "-R", "--snapshot"))
                best = min(best, OURS.frozen(images))
    note = f"{best:.1f} ms, plain dump {plain:.0f} ms, the whole command {together:.0f} ms"
    size = f"{bench.mebibytes} MiB"
    yield Row(f"frozen time of a snapshot of {size}", best / plain, "of a plain dump's", note, SNAPSHOT_GOAL)


def lazy_pages(bench: Bench) -> Iterator[Row]:
    """Memory that comes when it is touched."""
    yield from lazy.measure(bench.mebibytes // 4, bench.runs)


def curves(bench: Bench) -> Iterator[Row]:
    """The time for one task, thread, descriptor or mapping must not grow with their number."""
    for what, subject, numbers in (
        ("tasks", subjects.tasks, (25, 50, 100, 200)),
        ("threads", subjects.threads, (25, 50, 100, 200)),
        ("descriptors", subjects.descriptors, (500, 1000, 2000, 4000)),
        ("mappings", subjects.mappings, (1250, 2500, 5000, 10000)),
    ):
        points = []
        for number in (max(number // bench.divisor, 2 * step) for step, number in enumerate(numbers, 1)):
            ours = bench.cycles(subject(number))[0]
            points.append((number, ours.frozen, ours.restore))
            note = f"frozen {ours.frozen:.1f} ms, restore {ours.restore:.0f} ms"
            yield Row(f"{number} {what}", ours.frozen / number * 1e3, "µs each", note)
        (few, *first), (many, *last) = points[-2:]
        growth = [math.log(b / a) / math.log(many / few) for a, b in zip(first, last, strict=True)]
        note = f"restore grows with the power {growth[1]:.2f}"
        yield Row(f"growth from {few} to {many} {what}", growth[0], "is the power; 1: in proportion", note)


def crit(bench: Bench) -> Iterator[Row]:
    """A page map as JSON."""
    yield from page_maps.measure(1_000_000 // bench.divisor, bench.runs)


def _warm_up(mebibytes: int) -> None:
    """Touch as much memory as the copies are going to take: a virtual machine has to get it from its host first."""
    block = os.urandom(_MIB)
    with tempfile.NamedTemporaryFile(prefix="crucible-bench-") as file:
        for _ in range(3 * mebibytes):
            file.write(block)


def _compared(bench: Bench, what: str, ours: float, others: list[float]) -> Iterator[Row]:
    for other in others:
        assert bench.other is not None
        note = f"{bench.other.name} {other:.1f} ms"
        yield Row(what, ours / other, f"of the time of {bench.other.name}", note)


BENCHMARKS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "small": small,
    "startup": startup,
    "service": service,
    "big": big,
    "parallel": parallel,
    "increments": increments,
    "page-server": pages_sent,
    "snapshot": snapshot,
    "lazy": lazy_pages,
    "curves": curves,
    "crit": crit,
}
