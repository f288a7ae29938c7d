"""A run whose dumps send their pages to a page server, which has a directory of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from zdtm.harness.item import Bad
from zdtm.harness.run import GONE_SECONDS, Run

_WHERE = ["--address", "127.0.0.1", "--port", "27027"]


class PageServerRun(Run):
    """The images directory of a dump is the page server's; what the dump itself writes is added to it afterwards."""

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        if verb == "restore":
            super()._engine(verb, images, options, meanwhile)
            return
        here = self.item.directory / "here" / images.name
        here.mkdir(parents=True)
        pidfile = self.item.directory / "page-server.pid"
        parent = [option for option in options if option.startswith("--prev-images-dir")]
        super()._engine("page-server", images, ["--daemon", "--pidfile", str(pidfile), *_WHERE, *parent])
        super()._engine(verb, here, [*options, "--page-server", *_WHERE], meanwhile)
        if not self.init.wait_for(lambda: not pidfile.exists(), self._limit(GONE_SECONDS)):
            raise Bad("engine", f"the page server still runs\n{self._engine_says('page-server', images)}")
        if stray := [path.name for path in here.iterdir() if path.name.startswith("page")]:
            raise Bad("engine", f"pages did not go to the page server: {', '.join(stray)}")
        shutil.copytree(here, images, symlinks=True, ignore=shutil.ignore_patterns("parent"), dirs_exist_ok=True)
