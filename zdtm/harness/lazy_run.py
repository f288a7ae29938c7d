"""A run whose restores are lazy: a daemon brings the memory from the images while the tree runs already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zdtm.harness.init import died_how
from zdtm.harness.run import ENGINE_SECONDS, Bad, Run

SOCKET = "lazy-pages.socket"


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
        directory = self.item.directory
        command = [*self.item.restorer, "lazy-pages", "-D", str(images), "-v4", "-o", "lazy-pages.log"]
        daemon = self.init.spawn(command, self.item.engine_environment, directory, directory / "engine.out", {})
        listens = images / SOCKET
        self.init.wait_for(lambda: listens.exists() or self.init.has_died(daemon), self._limit(ENGINE_SECONDS))
        if not listens.exists():
            raise Bad("engine", f"the lazy-pages daemon does not listen\n{self._engine_says('lazy-pages', images)}")
        return daemon

    def _await_pages(self, daemon: int, images: Path) -> None:
        status = self.init.wait_exit(daemon, self._limit(ENGINE_SECONDS))
        if status != 0:
            how = "still runs" if status is None else died_how(status)
            raise Bad("engine", f"lazy-pages: {how}\n{self._engine_says('lazy-pages', images)}\n{self._tasks()}")
