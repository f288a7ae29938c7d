"""The pytest plugin: collects programs as items, program x flavour x mode, and runs each in a sandbox.

pytest zdtm -n 2 -k pipe --modes cli,iters
pytest zdtm/static/pipe00.py::h-cli --engine /usr/sbin/criu --keep
pytest zdtm --sabotage pipe-data
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from zdtm.harness import build, header, needs, sandbox, slow
from zdtm.harness.item import ITEM_SECONDS, Item
from zdtm.harness.modes import run_mode
from zdtm.harness.oracle.picture import KINDS

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SABOTAGE_MODES = "cli"
OURS = [sys.executable, "-m", "engine"]

settings_key = pytest.StashKey["Settings"]()


class Settings:
    """The options of this pytest run, understood, and the directory for its items."""

    def __init__(self, config: pytest.Config) -> None:
        self.engine = _engine_command("--engine", config.getoption("--engine")) or OURS
        self.restorer = _engine_command("--restore-engine", config.getoption("--restore-engine")) or self.engine
        self.sabotage: str | None = config.getoption("--sabotage")
        self.ignored = frozenset(word for word in (config.getoption("--oracle-ignore") or "").split(",") if word)
        if not self.ignored <= set(KINDS):
            raise pytest.UsageError(f"--oracle-ignore: unknown: {', '.join(self.ignored - set(KINDS))}")
        self.keep: bool = config.getoption("--keep")
        self.shard = _shard(config.getoption("--shard"))
        modes = config.getoption("--modes") or (SABOTAGE_MODES if self.sabotage else ",".join(header.MODES))
        self.modes = modes.split(",")
        if unknown := set(self.modes) - set(header.MODES):
            raise pytest.UsageError(
                f"--modes: unknown: {', '.join(sorted(unknown))}; there are {', '.join(header.MODES)}"
            )
        self.scale = float(os.environ.get("ZDTM_TIMEOUT_SCALE", "1"))
        self._cache: Any = getattr(config, "cache", None)
        self._artifacts: str | None = config.getoption("--artifacts")
        self._run_directory: Path | None = None

    def cache(self) -> Path:
        """For compiled programs; without pytest's own cache, for this run only."""
        if self._cache is not None:
            return Path(self._cache.mkdir("zdtm"))
        return self._run() / "built"

    def item_directory(self, name: str) -> Path:
        """A new directory. Any user may enter: programs run with other credentials too."""
        directory = self._run() / name
        directory.mkdir()
        directory.chmod(0o755)
        return directory

    def _run(self) -> Path:
        if self._run_directory is None:
            if self._artifacts is not None:
                Path(self._artifacts).mkdir(parents=True, exist_ok=True)
            self._run_directory = Path(tempfile.mkdtemp(prefix="zdtm-", dir=self._artifacts)).resolve()
            self._run_directory.chmod(0o755)
        return self._run_directory

    def clean_up(self) -> None:
        """Remove the directory of the run unless an item left its artifacts."""
        if self._run_directory is not None:
            shutil.rmtree(self._run_directory / "built", ignore_errors=True)
            if not any(self._run_directory.iterdir()):
                self._run_directory.rmdir()


def _engine_command(name: str, option: str | None) -> list[str]:
    """Empty for an option that was not given."""
    if option is None:
        return []
    first, *rest = shlex.split(option)
    found = shutil.which(first)
    if found is None:
        raise pytest.UsageError(f"{name}: {first} is not a program")
    return [str(Path(found).absolute()), *rest]


def _shard(option: str | None) -> tuple[int, int]:
    """ "2/3" -> (2, 3)"""
    if option is None:
        return 1, 1
    index, _, count = option.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise pytest.UsageError(f"--shard: {option} should read I/N, I from 1 to N")
    return int(index), int(count)


# Hooks.


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zdtm")
    group.addoption("--engine", metavar="PATH", help="engine to test (default: the crucible of this checkout)")
    group.addoption("--restore-engine", metavar="PATH", help="another engine, which restores what the first one dumps")
    group.addoption("--modes", metavar="A,B", help=f"modes to run, of {','.join(header.MODES)} (default: all)")
    group.addoption("--oracle-ignore", metavar="A,B", help="kinds of facts that may differ, for engines that differ")
    group.addoption("--sabotage", metavar="KIND", help="damage this kind of state in the images: tests must fail")
    group.addoption("--shard", metavar="I/N", help="run only the I-th of N parts of the items")
    group.addoption("--keep", action="store_true", help="keep the directories of items that passed, too")
    group.addoption("--artifacts", metavar="DIR", help="where to keep them (default: a new directory in /tmp)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel: kernels differ in what the program does (its header says in what)")
    config.stash[settings_key] = settings = Settings(config)
    if settings.sabotage is not None:
        from zdtm.harness import sabotage

        if settings.sabotage not in sabotage.KINDS:
            raise pytest.UsageError(f"--sabotage: no kind {settings.sabotage}; there are {', '.join(sabotage.KINDS)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if settings_key in config.stash:
        config.stash[settings_key].clean_up()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, Any, Any]:
    """Programs are ours alone: pytest would import one that is named on the command line, as a module with tests."""
    found = yield
    return [ProgramFile.from_parent(parent, path=file_path)] if header.is_program(file_path) else found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    index, count = config.stash[settings_key].shard
    mine = set(items[index - 1 :: count])
    config.hook.pytest_deselected(items=[item for item in items if item not in mine])
    items[:] = [item for item in items if item in mine]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    settings = config.stash[settings_key]
    lines = slow.unexplained(terminalreporter.stats.get("passed", []), settings.scale)
    if lines:
        terminalreporter.section("slow programs")
    for line in lines:
        terminalreporter.line(line)
    kind = settings.sabotage
    if kind is not None:
        passed, failed = (terminalreporter.stats.get(what, []) for what in ("passed", "failed"))
        terminalreporter.section(f"sabotage {kind}")
        terminalreporter.line(f"{len(failed)} tests noticed; {len(passed)} had such state and did not")
        for report in passed:
            terminalreporter.line(f"did not notice: {report.nodeid}")


# Items.


class ProgramFile(pytest.File):
    """A program. Its items are its modes in its flavours."""

    def collect(self) -> Iterator[ProgramItem]:
        try:
            program = header.read(self.path)
        except (header.BadHeader, SyntaxError) as problem:
            raise self.CollectError(str(problem)) from problem
        settings = self.config.stash[settings_key]
        if settings.sabotage is not None and (program.in_transition or program.refusal is not None):
            return  # the first look at little, and the oracle does not make up for it; the others make no images
        for flavour in program.flavours:
            if flavour not in header.FLAVOURS:
                continue
            for mode in program.modes:
                if mode in settings.modes:
                    item = ProgramItem.from_parent(self, name=f"{flavour}-{mode}", program=program, mode=mode)
                    if program.kernel is not None:
                        item.add_marker("kernel")
                    yield item


class ItemFailed(Exception):
    """A judge said no."""


class ProgramItem(pytest.Item):
    """One program in one flavour and one mode."""

    def __init__(self, *, program: header.Program, mode: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.program = program
        self.mode = mode

    def runtest(self) -> None:
        settings = self.config.stash[settings_key]
        if os.geteuid() != 0:
            pytest.skip("needs root to make namespaces")
        if reason := needs.unmet(self.program.needs):
            pytest.skip(reason)
        directory = settings.item_directory(f"{self.path.stem}-{self.name}")
        item = self._item(settings, directory)
        result = sandbox.run(lambda: run_mode(item, self.mode), directory, ITEM_SECONDS * settings.scale)
        self.user_properties += slow.properties(self.program, result.seconds)
        if result.outcome == "failed":
            raise ItemFailed(f"{result.judge}: {result.text}\nartifacts: {directory}")
        if not settings.keep:
            shutil.rmtree(directory)
        if result.outcome == "skipped":
            pytest.skip(result.text)

    def _item(self, settings: Settings, directory: Path) -> Item:
        if self.path.suffix == ".c":
            command = [str(build.executable(self.program, settings.cache()))]
        else:
            command = [sys.executable, str(self.path)]
        common = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", "PYTHONPATH": str(CHECKOUT)}
        return Item(
            program=self.program,
            command=command,
            engine=settings.engine,
            restorer=settings.restorer,
            directory=directory,
            program_environment=common
            | {"ZDTM_WORKDIR": str(directory / "work"), "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"},
            engine_environment=common | {"TMPDIR": str(directory / "tmp")},
            sabotage=settings.sabotage,
            ignored=settings.ignored,
            scale=settings.scale,
        )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (ItemFailed, build.CannotBuild, ValueError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.path.name}[{self.name}]"
