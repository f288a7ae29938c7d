"""A run whose restores are lazy: a daemon brings the memory from the images while the tree runs already."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from zdtm.harness.init import died_how
from zdtm.harness.run import ENGINE_SECONDS, Bad, Run

_STATUS_FD = 9


class LazyRun(Run):
    """The daemon ends when all pages have come; until then the oracle can't look at them."""

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        if verb != "restore":
            super()._engine(verb, images, options, meanwhile)
            return
        daemon = self._start_daemon(images)
        super()._engine(verb, images, ["--lazy-pages", *options], meanwhile)
        with self._timed("lazy-pages"):
            self._await_pages(daemon, images)

    def _start_daemon(self, images: Path) -> int:
        """Start it and wait until it says that it can be connected to."""
        directory = self.item.directory
        read_end, write_end = os.pipe()
        words = ["-D", str(images), "-v4", "-o", "lazy-pages.log", "--status-fd", str(_STATUS_FD)]
        command = [*self.item.restorer, "lazy-pages", *words]
        output, given = directory / "engine.out", {_STATUS_FD: write_end}
        daemon = self.init.spawn(command, self.item.engine_environment, directory, output, given)
        os.close(write_end)
        poll = select.poll()
        poll.register(read_end, select.POLLIN)
        self.init.wait_for(lambda: poll.poll(0), self._limit(ENGINE_SECONDS))
        ready = bool(poll.poll(0)) and os.read(read_end, 1) == b"\0"
        os.close(read_end)
        if not ready:
            raise Bad("engine", f"the lazy-pages daemon does not listen\n{self._engine_says('lazy-pages', images)}")
        return daemon

    def _await_pages(self, daemon: int, images: Path) -> None:
        status = self.init.wait_exit(daemon, self._limit(ENGINE_SECONDS))
        if status != 0:
            how = "still runs" if status is None else died_how(status)
            raise Bad("engine", f"lazy-pages: {how}\n{self._engine_says('lazy-pages', images)}\n{self._tasks()}")
