"""What a program gets from outside of its tree (`outside:` in its header), see zdtm/lib/outside.py."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from zdtm.harness.header import Program
from zdtm.lib.outside import FIRST, Outside


class Supplier:
    """The outside of a program, and what it has supplied last; a program without an outside gets nothing.

    descriptors    number in the program -> our descriptor, until it is handed over
    """

    def __init__(self, program: Program, work: Path) -> None:
        self._outside = _load(program, work)
        self._keys: list[str] = []
        self._external: list[str] = []
        self.descriptors: dict[int, int] = {}

    def supply(self) -> None:
        """Have new descriptors made."""
        if self._outside is None:
            return
        self._outside.close()
        given = self._outside.supply()
        self._keys = [self._outside.key(fd) for fd in given]
        self._external = [key for key in map(self._outside.external, given) if key is not None]
        self.descriptors = dict(enumerate(given, FIRST))

    def dump_options(self) -> list[str]:
        """Options that call external what is, and those that the outside wants."""
        own = self._outside.dump_options() if self._outside else []
        return [*own, *(word for key in self._external for word in ("--external", key))]

    def restore_options(self) -> list[str]:
        """Have new descriptors made, and give the options that put them in the places of the last ones."""
        keys = self._keys
        self.supply()
        given = zip(self.descriptors, keys, strict=True)
        return [word for number, key in given for word in ("--inherit-fd", f"fd[{number}]:{key}")]

    def hand_over(self) -> None:
        """The child that gets the descriptors has them."""
        for fd in self.descriptors.values():
            os.close(fd)
        self.descriptors.clear()

    def check(self) -> None:
        """Let the outside have its say. Raises Failure."""
        if self._outside is not None:
            self._outside.check()

    def close(self) -> None:
        """Nothing more will be needed."""
        if self._outside is not None:
            self._outside.close()


def _load(program: Program, work: Path) -> Outside | None:
    if program.outside is None:
        return None
    spec = importlib.util.spec_from_file_location(f"outside_{program.path.stem}", program.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outside = getattr(module, program.outside)(work)
    assert isinstance(outside, Outside)
    return outside
