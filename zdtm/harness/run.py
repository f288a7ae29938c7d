"""One item being run: the steps modes are made of. All of it happens in pid 1 of the item's sandbox.

A step that goes wrong raises Bad with the judge that says no.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zdtm.plugins
from zdtm.harness import host
from zdtm.harness.init import Init, descendants, died_how, doings
from zdtm.harness.item import Bad, Item, NothingToSabotage
from zdtm.harness.oracle.compare import as_text, differences
from zdtm.harness.oracle.picture import KINDS, STEADY_KINDS, Picture, take, wait_until_quiet
from zdtm.harness.oracle.stir import interrupt_tree
from zdtm.harness.outside import Supplier
from zdtm.harness.workcopy import WorkCopy
from zdtm.lib.program import Failure

READY, PASS, FAIL = "READY", "PASS", "FAIL:"

READY_SECONDS, ENGINE_SECONDS, FINISH_SECONDS, GONE_SECONDS = 30.0, 90.0, 30.0, 10.0
LOG_LINES = 30


class Run:
    """The program of an item and what is done to it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.program = item.program
        self.init = Init()
        self.seconds: dict[str, float] = {}
        self.root = 0
        self.output = item.directory / "out"
        self.work = item.directory / "work"
        self.images = item.directory / "images"
        self.temporary = item.directory / "tmp"
        ignored = item.ignored.union(self.program.oracle_ignores)
        self.kinds = set(STEADY_KINDS if self.program.in_transition else KINDS) - ignored
        self._copy: WorkCopy | None = None
        self._frozen = item.directory / "frozen"
        for directory in (self.work, self.images, self.temporary):
            directory.mkdir()
        # Programs may run with any credentials.
        self.work.chmod(0o777)
        self.output.touch()
        self.output.chmod(0o666)
        self._plugins = self._copy_plugins()
        self._outside = Supplier(item.program, self.work)
        self._host = host.look(item.directory, self.work, self.temporary)

    def _copy_plugins(self) -> list[str]:
        """Put the program's plugins into a directory that an engine trusts; the options that lead there."""
        if not self.program.plugins:
            return []
        directory = self.item.directory / "plugins"
        directory.mkdir(mode=0o755)
        for name in self.program.plugins:
            shutil.copy(Path(zdtm.plugins.__file__).parent / f"{name}.py", directory)
        return ["--libdir", str(directory)]

    # The program.

    def start(self) -> None:
        """Start the program and wait until it says READY."""
        with self._timed("start"):
            self._outside.supply()
            command, environment, given = self.item.command, self.item.program_environment, self._outside.descriptors
            self.root = self.init.spawn(command, environment, self.work, self.output, given)
            self._outside.hand_over()
            said = self.init.wait_for(
                lambda: READY in self._said() or self.init.has_died(self.root), self._limit(READY_SECONDS)
            )
        if self.init.has_died(self.root):
            raise Bad("program", f"ended before it was ready: {died_how(self.init.statuses[self.root])}")
        if not said:
            raise Bad("program", f"not ready after {READY_SECONDS * self.item.scale:.0f} s\n{doings()}")

    def finish(self) -> None:
        """SIGTERM; the program must say PASS and end with 0."""
        with self._timed("finish"):
            os.kill(self.root, signal.SIGTERM)
            status = self.init.wait_exit(self.root, self._limit(FINISH_SECONDS))
        if status is None:
            raise Bad("program", f"still runs {FINISH_SECONDS * self.item.scale:.0f} s after SIGTERM\n{doings()}")
        verdict = next((line for line in self._said() if line.startswith((PASS, FAIL))), "no verdict")
        if verdict != PASS or status != 0:
            raise Bad("program", f"{verdict}, {died_how(status)}")
        try:
            self._outside.check()
        except Failure as problem:
            raise Bad("program", f"outside of the tree: {problem}") from problem

    def _said(self) -> list[str]:
        return self.output.read_text(errors="replace").splitlines()

    def output_text(self) -> str:
        """The end of what the program said, for a report."""
        return "\n".join(["--- the program's output", *self._said()[-LOG_LINES:]])

    # The engine.

    def pre_dump(self, number: int) -> None:
        """Write the memory of the running tree into image directory `number`, as an increment of the one before."""
        images = self._images(number)
        images.mkdir()
        options = ["-t", str(self.root), *self.program.pre_dump_options, *self._plugins, *self._increment(number)]
        self._engine("pre-dump", images, options)

    def _increment(self, number: int) -> list[str]:
        return ["--track-mem", *([f"--prev-images-dir=../{number - 1}"] if number > 1 else [])]

    def dump(self, number: int, *, leave_running: bool = False, increment: bool = False) -> None:
        """Dump the tree into image directory `number`; without leave_running it must be gone afterwards.

        increment: as one of the images in directory `number` - 1
        """
        tree = descendants(self.root)
        images = self._images(number)
        images.mkdir()
        given = [*self._plugins, *self._outside.dump_options()]
        options = ["-t", str(self.root), *self.program.dump_options, *given]
        if increment:
            options += self._increment(number)
        if not leave_running:
            self._engine("dump", images, options)
            self._expect_gone(tree)
        elif self.program.in_transition:
            self._engine(
                "dump", images, ["--leave-running", *options, *self._stop_at("post-dump")], self._keep_if_frozen
            )
        else:
            self._engine("dump", images, ["--leave-running", *options])
            self._keep_work()

    def refused_dump(self, number: int, pattern: str) -> None:
        """The dump must fail with a message that matches, and leave the tree alone."""
        images = self._images(number)
        images.mkdir()
        try:
            self._engine("dump", images, ["-t", str(self.root), *self.program.dump_options, *self._plugins])
        except Bad as refused:
            log = self._engine_says("dump", images, lines=1000)
            if not re.search(pattern, log):
                raise Bad("engine", f'no message matches "{pattern}"; {refused.text}') from None
            if self.init.has_died(self.root):
                raise Bad("engine", "the refused dump killed the program") from None
        else:
            raise Bad("engine", "the dump should have been refused, but says it worked")

    def restore(self, number: int) -> None:
        """Restore from image directory `number`, damaged first if this is a sabotage."""
        images = self._images(number)
        if self.item.sabotage is not None:
            from zdtm.harness.sabotage import damage

            if not damage(self.item.sabotage, images):
                raise NothingToSabotage(f"no {self.item.sabotage} in the images")
        pidfile = self.item.directory / f"restored-{number}.pid"
        given = [*self._plugins, *self._outside.restore_options()]
        self._engine("restore", images, ["-d", "--pidfile", str(pidfile), *self.program.restore_options, *given])
        self._outside.hand_over()
        if self.init.has_died(self.root):
            raise Bad("program", f"ended right after the restore: {died_how(self.init.statuses[self.root])}")
        text = pidfile.read_text() if pidfile.exists() else "nothing"
        if text.strip() != str(self.root):
            raise Bad("engine", f"the pidfile should name task {self.root}, but holds {text!r}")

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Run the engine to its end. meanwhile: called again and again while it runs."""
        log = f"{verb}.log"
        engine = self.item.engine if verb == "dump" else self.item.restorer
        command = [*engine, verb, "-D", str(images), "-v4", "-o", log, *options]
        with self._timed(verb):
            directory = self.item.directory
            output, given = directory / "engine.out", self._outside.descriptors
            pid = self.init.spawn(command, self.item.engine_environment, directory, output, given)
            self.init.wait_for(lambda: meanwhile() or self.init.has_died(pid), self._limit(ENGINE_SECONDS))
            status = self.init.statuses.pop(pid, None)
        if status is None:
            said = self._engine_says(verb, images)
            raise Bad("engine", f"{verb} still runs after {ENGINE_SECONDS * self.item.scale:.0f} s\n{said}\n{doings()}")
        if status != 0:
            raise Bad("engine", f"{verb}: {died_how(status)}\n{self._engine_says(verb, images)}")

    def _engine_says(self, verb: str, images: Path, lines: int = LOG_LINES) -> str:
        texts = []
        for path in (images / f"{verb}.log", self.item.directory / "engine.out"):
            if path.exists() and (text := path.read_text(errors="replace").splitlines()):
                texts += [f"--- {path.name}", *text[-lines:]]
        return "\n".join(texts)

    def _images(self, number: int) -> Path:
        return self.images / str(number)

    def _expect_gone(self, tree: list[int]) -> None:
        if not self.init.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in tree), GONE_SECONDS):
            raise Bad("engine", f"the dump worked, but tasks are still there\n{doings()}")
        status = self.init.statuses.pop(self.root)
        if status != signal.SIGKILL:
            raise Bad(
                "engine", f"the dump should have killed the tree, but the root ended otherwise: {died_how(status)}"
            )

    # The judges.

    def first_picture(self) -> Picture:
        """Of the tree as it stands before the first dump."""
        with self._timed("oracle"), self._told_by_oracle():
            if "memory" not in self.kinds:
                return take(self.root, self.kinds)
            # READY is said a moment before the program is in the call that it waits in.
            wait_until_quiet(self.root)
            return take(self.root, self.kinds, rseq=interrupt_tree(self.root))

    def compare(self, before: Picture, when: str) -> None:
        """The tree must look as it did. when: "after the restore"."""
        with self._timed("oracle"), self._told_by_oracle():
            after = take(self.root, self.kinds, before=before)
            found = differences(before, after, self.kinds)
        if found:
            self._check_lives()
            text = f"{when} the tree looks different\n{as_text(found)}"
            (self.item.directory / "oracle.diff").write_text(text)
            raise Bad("oracle", text)

    def check_host(self) -> None:
        """Nothing may be left but what was there before the program started."""
        with self._timed("host"):
            self._outside.close()
            found = host.leftovers(self._host, self.item.directory, self.work, self.temporary)
        if found:
            raise Bad("host", "left behind\n" + "\n".join(f"  {line}" for line in found))

    @contextmanager
    def _told_by_oracle(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as problem:
            raise Bad("oracle", str(problem)) from problem
        except (FileNotFoundError, ProcessLookupError) as problem:
            self._check_lives()
            raise Bad("oracle", f"the tree changed while it was looked at: {problem}") from problem

    def _check_lives(self) -> None:
        if self.init.has_died(self.root):
            raise Bad("program", f"died: {died_how(self.init.statuses[self.root])}")

    # The work directory.

    def _keep_work(self) -> None:
        """Copy the program's files, so that put_work_back() can undo what the original does to them after a dump."""
        self._copy = WorkCopy([self.work, self.output], self.item.directory / "kept")

    def _stop_at(self, stage: str) -> list[str]:
        """Options that make the engine wait, at a stage with all tasks frozen, until the harness has seen it.

        A program in transition changes its files all the time; only then do they fit to the image.
        """
        script = self.item.directory / "stop.sh"
        seen = f'touch "{self._frozen}"; while [ -e "{self._frozen}" ]; do sleep 0.01; done'
        script.write_text(f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" = {stage} ] || exit 0\n{seen}\n')
        script.chmod(0o755)
        return ["--action-script", str(script)]

    def _keep_if_frozen(self) -> None:
        if self._frozen.exists():
            self._keep_work()
            self._frozen.unlink()

    def put_work_back(self) -> None:
        """The files again as they were at the dump the original went on from."""
        if self._copy is not None:
            self._copy.put_back()
            self._copy = None

    # Helpers.

    def _limit(self, seconds: float) -> float:
        return seconds * self.item.scale

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - start
