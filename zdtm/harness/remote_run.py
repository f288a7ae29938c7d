"""A run whose images touch no disk: between dump and restore are an image proxy and an image cache."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from zdtm.harness.init import died_how, doings
from zdtm.harness.item import Bad
from zdtm.harness.run import ENGINE_SECONDS, FINISH_SECONDS, Run

_PORT = re.compile(r"Proxies are expected at \S+ port (\d+)")
_READY = re.compile(r"The image proxy is ready()")


class RemoteRun(Run):
    """Proxy and cache run from the first command of the engine to the program's end. Snapshots have the numbers that
    directories have elsewhere."""

    _proxy = _cache = 0

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        if not self._cache:
            self._cache, port = self._start("image-cache", self.item.restorer, "0", _PORT)
            self._proxy, _ = self._start("image-proxy", self.item.engine, port, _READY)
        options = [word.replace("--prev-images-dir=../", "--prev-images-dir=") for word in options]
        daemon = "cache" if verb == "restore" else "proxy"
        options += ["--remote", f"--snapshot-id={images.name}", f"--remote-socket={self._socket(f'image-{daemon}')}"]
        super()._engine(verb, images, options, meanwhile)
        if found := [path.name for path in images.iterdir() if path.suffix == ".img"]:
            raise Bad("engine", f"{verb}: images were written to the disk: {', '.join(found)}")

    def finish(self) -> None:
        super().finish()
        for name, pid in (("image-proxy", self._proxy), ("image-cache", self._cache)):
            if not self.init.has_died(pid):
                os.kill(pid, signal.SIGTERM)
            status = self.init.wait_exit(pid, self._limit(FINISH_SECONDS))
            if status != 0:
                how = "still runs after SIGTERM" if status is None else died_how(status)
                raise Bad("engine", f"{name}: {how}\n{self._log(name).read_text()}")
        self._proxy = self._cache = 0

    def _start(self, name: str, engine: list[str], port: str, ready: re.Pattern[str]) -> tuple[int, str]:
        """Start a daemon. Returns its pid and what it says when it is ready, as far as the pattern wants it."""
        log = self._log(name)
        options = [f"--remote-socket={self._socket(name)}", "--port", port, "-v4", "-o", str(log)]
        directory = self.item.directory
        pid = self.init.spawn(
            [*engine, name, "-D", str(directory), *options],
            self.item.engine_environment,
            directory,
            directory / "engine.out",
        )

        def said() -> re.Match[str] | None:
            return ready.search(log.read_text()) if log.exists() else None

        self.init.wait_for(lambda: said() or self.init.has_died(pid), self._limit(ENGINE_SECONDS))
        match = said()
        if match is None:
            raise Bad("engine", f"{name} does not become ready\n{log.read_text() if log.exists() else doings()}")
        return pid, match[1]

    def _socket(self, name: str) -> Path:
        return self.item.directory / f"{name}.sock"

    def _log(self, name: str) -> Path:
        return self.item.directory / f"{name}.log"
