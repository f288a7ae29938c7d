"""A run whose dumps let the tree go on before its memory is written: twins of the tasks keep what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zdtm.harness.run import Run


class CowRun(Run):
    """Every dump is one with --snapshot."""

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        super()._engine(verb, images, ["--snapshot", *options] if verb == "dump" else options, meanwhile)
