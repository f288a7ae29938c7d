"""The measurements. Each yields lines of text as it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from bench import subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OURS = [sys.executable, "-m", "engine"]
_MIB = 1 << 20


class Figures:
    """Milliseconds that one dump and, if asked for, the restore after it took."""

    def __init__(self) -> None:
        self.dump = self.frozen = self.restore = float("inf")


class Bench:
    """How to run an engine. other: path of a second engine, None for none."""

    def __init__(self, other: str | None, runs: int) -> None:
        self.other = [other] if other else None
        self.runs = runs

    def cycle(self, program: str, engine: list[str] | None = None, restore: bool = False) -> Figures:
        """Best times over all runs of one subject, which is left running by the dumps."""
        best = Figures()
        with subjects.running(program) as pid, tempfile.TemporaryDirectory(prefix="crucible-bench-") as images:
            for run in range(self.runs):
                last = restore and run == self.runs - 1
                self._clear(images)
                words = ["dump", "-t", str(pid), "-D", images, "-o", "dump.log"]
                best.dump = min(best.dump, self._run(engine, words if last else [*words, "-R"]))
                best.frozen = min(best.frozen, self._frozen(images))
            if restore:
                self._wait_for_the_end(pid)
                best.restore = self._run(engine, ["restore", "-d", "-D", images, "-o", "restore.log"])
        return best

    @staticmethod
    def _clear(images: str) -> None:
        for entry in os.scandir(images):
            os.unlink(entry.path)

    @staticmethod
    def _run(engine: list[str] | None, words: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run([*(engine or _OURS), *words], check=True)
        return (time.perf_counter() - start) * 1e3

    @staticmethod
    def _frozen(images: str) -> float:
        from engine.images.directory import ImageDir

        with ImageDir(images) as directory:
            return float(directory.read_one("STATS", "dump").dump.frozen_time) / 1e3

    @staticmethod
    def _wait_for_the_end(pid: int) -> None:
        """Until the pid can be used again: its parent, this process, has to reap it."""
        os.waitid(os.P_PID, pid, os.WEXITED)

    def copy(self, size: int) -> float:
        """Milliseconds that cp takes for a file of this size that is in the page cache."""
        with tempfile.TemporaryDirectory(prefix="crucible-bench-") as place:
            source, target = os.path.join(place, "source"), os.path.join(place, "target")
            with open(source, "wb") as file:
                file.writelines(os.urandom(_MIB) for _ in range(size // _MIB))
            best = float("inf")
            for _ in range(self.runs):
                start = time.perf_counter()
                subprocess.run(["cp", "--reflink=never", source, target], check=True)
                best = min(best, (time.perf_counter() - start) * 1e3)
                os.unlink(target)
        return best


def _row(what: str, *cells: str) -> str:
    return "   ".join([f"{what:18}", *cells])


def _ms(what: str, value: float) -> str:
    return f"{what} {value:8.1f} ms"


def small(bench: Bench) -> Iterator[str]:
    """A small process: how long it stands still, and the whole commands."""
    for name, engine in (("small process", None), (f"  {bench.other}", bench.other)):
        if engine or name == "small process":
            best = bench.cycle(subjects.SLEEP, engine, restore=True)
            yield _row(name, _ms("frozen", best.frozen), _ms("dump", best.dump), _ms("restore", best.restore))


def startup(bench: Bench) -> Iterator[str]:
    """A whole command that does next to nothing, and what of it the interpreter takes alone."""
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "check": [*_OURS, "check", "--feature", "timerfd"]}
    cells = []
    for name, words in commands.items():
        best = float("inf")
        for _ in range(bench.runs):
            start = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            best = min(best, (time.perf_counter() - start) * 1e3)
        cells.append(_ms(name, best))
    yield _row("start-up", *cells)


def big(bench: Bench) -> Iterator[str]:
    """1000 MiB of private memory against cp of as many bytes."""
    ours = bench.cycle(subjects.memory(1000), restore=True)
    copy = bench.copy(1000 * _MIB)
    ratio = f"{copy / ours.frozen:.2f} of cp's speed"
    yield _row("1000 MiB", _ms("frozen", ours.frozen), _ms("cp", copy), ratio, _ms("restore", ours.restore))
    if bench.other:
        other = bench.cycle(subjects.memory(1000), bench.other, restore=True)
        ratios = f"dump {ours.dump / other.dump:.2f}, restore {ours.restore / other.restore:.2f} of its time"
        yield _row(f"  {bench.other[0]}", _ms("frozen", other.frozen), ratios)


def parallel(bench: Bench) -> Iterator[str]:
    """The same memory in one task and in four."""
    one = bench.cycle(subjects.memory_in_tasks(600, 1)).frozen
    four = bench.cycle(subjects.memory_in_tasks(600, 4)).frozen
    yield _row("600 MiB", _ms("in one task", one), _ms("in four", four), f"{os.cpu_count()} processors")


def curves(bench: Bench) -> Iterator[str]:
    """Tasks, threads, descriptors and mappings: the time for one must not grow with their number."""
    for what, program, numbers in (
        ("tasks", subjects.tasks, (25, 50, 100, 200)),
        ("threads", subjects.threads, (25, 50, 100)),
        ("descriptors", subjects.descriptors, (250, 500, 1000, 2000)),
        ("mappings", subjects.mappings, (1250, 2500, 5000)),
    ):
        for number in numbers:
            best = bench.cycle(program(number), restore=True)
            each = f"({best.frozen / number * 1e3:6.1f} us each)"
            yield _row(f"{number} {what}", _ms("frozen", best.frozen), each, _ms("restore", best.restore))


BENCHMARKS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "small": small,
    "startup": startup,
    "big": big,
    "parallel": parallel,
    "curves": curves,
}
