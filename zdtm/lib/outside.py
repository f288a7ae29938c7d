"""The part of a test that stays outside of the tree and holds the other ends of what the program has.

A program names its class in the header, `outside: Reader`, and starts with the descriptors that supply() gives, as
3, 4, … The class lives in the harness: nothing of it is in the tree, and it never waits for anything.

    class Reader(Outside):
        def supply(self) -> list[int]:
            reader, writer = os.pipe()
            self.keep(reader)
            return [writer]

        def check(self) -> None:
            equal(os.read(self.kept[0], 64), b"hello", "what the program has written")
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

FIRST = 3
"""The number of the first descriptor in the program."""


class Outside:
    """Base of such classes. kept: descriptors of the outside, closed before the next supply() and at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kept: list[int] = []

    def supply(self) -> list[int]:
        """Descriptors for the program. Called before it is started, and before each restore for those that the engine
        gets by --inherit-fd in place of the last ones. The harness closes them."""
        raise NotImplementedError

    def key(self, fd: int) -> str:
        """By what key --inherit-fd calls one of them."""
        if stat.S_ISCHR((info := os.fstat(fd)).st_mode):
            return f"tty[{info.st_rdev:x}:{info.st_dev:x}]"
        link = os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")
        return link if link.startswith("/memfd:") else link.lstrip("/")

    def external(self, fd: int) -> str | None:
        """By what key --external calls it at the dump, None if it need not be named."""
        return None

    def dump_options(self) -> list[str]:
        """More options for each dump: what the header can't know."""
        return []

    def check(self) -> None:
        """The program has passed: look what has come out of the other ends. Raises Failure."""

    def keep(self, fd: int) -> int:
        """Have a descriptor closed in time."""
        self.kept.append(fd)
        return fd

    def close(self) -> None:
        """Close what is kept."""
        for fd in self.kept:
            os.close(fd)
        self.kept.clear()
