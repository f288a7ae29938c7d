"""A run whose restores are lazy: a daemon brings the memory from the images while the tree runs already."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from zdtm.harness.init import died_how, doings
from zdtm.harness.item import Bad
from zdtm.harness.run import ENGINE_SECONDS, Run

_STATUS_FD = 9


class LazyRun(Run):
    """The daemon ends when all pages have come; until then the oracle can't look at them."""

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        if verb != "restore":
            super()._engine(verb, images, options, meanwhile)
            return
        daemon = self._start_server([*self.item.restorer, "lazy-pages"], images, *self._source())
        super()._engine(verb, images, ["--lazy-pages", *options], meanwhile)
        with self._timed("lazy-pages"):
            self._await_success("lazy-pages", daemon, images)

    def _source(self) -> tuple[list[str], dict[int, int]]:
        """Where the daemon gets pages that are not in the images: options, and descriptors for them."""
        return [], {}

    def _start_server(self, engine: list[str], images: Path, options: list[str], given: dict[int, int]) -> int:
        """Start a verb of the engine and wait until it says that it can be connected to."""
        directory, verb = self.item.directory, engine[-1]
        read_end, write_end = os.pipe()
        words = ["-D", str(images), "-v4", "-o", f"{verb}.log", "--status-fd", str(_STATUS_FD), *options]
        output, given = directory / "engine.out", {**given, _STATUS_FD: write_end}
        server = self.init.spawn([*engine, *words], self.item.engine_environment, directory, output, given)
        os.close(write_end)
        poll = select.poll()
        poll.register(read_end, select.POLLIN)
        self.init.wait_for(lambda: poll.poll(0), self._limit(ENGINE_SECONDS))
        ready = bool(poll.poll(0)) and os.read(read_end, 1) == b"\0"
        os.close(read_end)
        if not ready:
            raise Bad("engine", f"{verb} does not listen\n{self._engine_says(verb, images)}")
        return server

    def _await_success(self, verb: str, server: int, images: Path) -> None:
        """Wait for the end of a verb that serves."""
        status = self.init.wait_exit(server, self._limit(ENGINE_SECONDS))
        if status != 0:
            how = "still runs" if status is None else died_how(status)
            raise Bad("engine", f"{verb}: {how}\n{self._engine_says(verb, images)}\n{doings()}")
