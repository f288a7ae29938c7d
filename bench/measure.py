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
    """What one dump and, if asked for, the restore after it took. Times in milliseconds, size of the images in bytes."""

    def __init__(self) -> None:
        self.dump = self.frozen = self.restore = float("inf")
        self.images_size = 0


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
                best.images_size = sum(entry.stat().st_size for entry in os.scandir(images))
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
                for _ in range(size // _MIB):
                    file.write(os.urandom(_MIB))
            best = float("inf")
            for _ in range(self.runs):
                start = time.perf_counter()
                subprocess.run(["cp", "--reflink=never", source, target], check=True)
                best = min(best, (time.perf_counter() - start) * 1e3)
                os.unlink(target)
        return best


def small(bench: Bench) -> Iterator[str]:
    """A small process: how long it stands still, and the whole commands."""
    figures = bench.cycle(subjects.SLEEP, restore=True)
    yield f"small process      frozen {figures.frozen:8.2f} ms   dump {figures.dump:7.1f} ms   restore {figures.restore:7.1f} ms"
    if bench.other:
        other = bench.cycle(subjects.SLEEP, bench.other, restore=True)
        yield f"  {bench.other[0]:16} frozen {other.frozen:8.2f} ms   dump {other.dump:7.1f} ms   restore {other.restore:7.1f} ms"


def startup(bench: Bench) -> Iterator[str]:
    """From the start of the command to its first act on another task, and what of it the interpreter takes alone."""
    with subjects.running(subjects.SLEEP) as pid, tempfile.TemporaryDirectory() as images:
        best = bare = float("inf")
        for _ in range(bench.runs):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            bare = min(bare, (time.perf_counter() - start) * 1e3)
            log = os.path.join(images, "dump.log")
            begin = time.time()
            bench._run(None, ["dump", "-t", str(pid), "-D", images, "-R", "-v4", "-o", "dump.log"])
            best = min(best, (os.stat(log).st_ctime - begin) * 1e3)
    yield f"start-up           python {bare:8.1f} ms   whole dump command {best:7.1f} ms"


def big(bench: Bench) -> Iterator[str]:
    """1000 MiB of private memory against cp of as many bytes."""
    figures = bench.cycle(subjects.memory(1000), restore=True)
    copy = bench.copy(1000 * _MIB)
    speed = copy / figures.frozen
    yield f"1000 MiB           frozen {figures.frozen:8.1f} ms   cp {copy:9.1f} ms   {speed:.2f} of cp's speed   restore {figures.restore:7.1f} ms"
    if bench.other:
        other = bench.cycle(subjects.memory(1000), bench.other, restore=True)
        yield f"  {bench.other[0]:16} frozen {other.frozen:8.1f} ms   dump {figures.dump / other.dump:.2f}   restore {figures.restore / other.restore:.2f} of its time"


def parallel(bench: Bench) -> Iterator[str]:
    """The same memory in one task and in four."""
    one = bench.cycle(subjects.memory_in_tasks(600, 1)).frozen
    four = bench.cycle(subjects.memory_in_tasks(600, 4)).frozen
    yield f"600 MiB            in one task {one:7.1f} ms   in four {four:7.1f} ms   ({os.cpu_count()} processors)"


def curves(bench: Bench) -> Iterator[str]:
    """Tasks, threads, descriptors and mappings: the time for one must not grow with their number."""
    for what, program, numbers in (
        ("tasks", subjects.tasks, (25, 50, 100, 200)),
        ("threads", subjects.threads, (25, 50, 100)),
        ("descriptors", subjects.descriptors, (250, 500, 1000, 2000)),
        ("mappings", subjects.mappings, (1250, 2500, 5000)),
    ):
        for number in numbers:
            figures = bench.cycle(program(number), restore=True)
            each = figures.frozen / number * 1e3
            yield f"{number:5} {what:12} frozen {figures.frozen:8.1f} ms ({each:6.1f} us each)   restore {figures.restore:8.1f} ms"


BENCHMARKS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "small": small,
    "startup": startup,
    "big": big,
    "parallel": parallel,
    "curves": curves,
}
