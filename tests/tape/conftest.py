"""Fixtures for tests that enter tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Guest(Subject):
    """A subject that is watched while it is on its way from one tell() to the next."""

    def let_go(self) -> None:
        """Let it leave its tell(), without waiting for the next one."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def listen(self) -> dict[str, Any]:
        """Wait for its next tell()."""
        self.facts = self._listen()
        return self.facts

    def end(self) -> int:
        """Let it run to its end; its return code, negative for a signal."""
        self._process.communicate(b"\n")
        return self._process.returncode


@pytest.fixture
def start() -> Iterator[Callable[[str], Guest]]:
    """start(code): a Guest that runs `code`, killed after the test."""
    guests = []

    def start(code: str) -> Guest:
        guests.append(Guest(code))
        return guests[-1]

    yield start
    for guest in guests:
        guest.kill()
