"""Process trees by recipe: what each task does before it settles down at the gate.

    recipe = ["session", Child(["group"]), Dying([Child([])])]

is a task that starts a session, has a child that leads a group in it, and a grandchild whose parent has died.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Union

from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_SET_CHILD_SUBREAPER, fork_sibling, prctl
from zdtm.lib.program import Failure, child, reap

Step = Union[str, "Child", "Sibling", "Dying"]
"""A birth, or one of the words of _live()."""
Recipe = list[Step]


@dataclass(frozen=True)
class Child:
    """A child that follows the recipe and then waits at the gate."""

    recipe: Recipe


@dataclass(frozen=True)
class Sibling:
    """The same, but born with CLONE_PARENT: a child of our parent."""

    recipe: Recipe


@dataclass(frozen=True)
class Dying:
    """A child that follows the recipe and exits; we reap it at once. Its children become orphans."""

    recipe: Recipe


def settlers(recipe: Recipe) -> int:
    """How many tasks will wait at the gate, besides the one that follows the recipe."""
    total = 0
    for step in recipe:
        if not isinstance(step, str):
            total += settlers(step.recipe) + (not isinstance(step, Dying))
    return total


def grow(gate: Gate, recipe: Recipe) -> list[int]:
    """Follow the recipe as the root, which adopts all orphans. Gives the pids of all who have settled."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    _live(gate, recipe)
    return gate.expect(settlers(recipe))


def release(gate: Gate) -> None:
    """Open the gate and reap everybody; fail if one of them does."""
    gate.open()
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return
        if status:
            raise Failure(f"wait status of {pid} is {status:#x}")


def _live(gate: Gate, recipe: Recipe) -> None:
    for step in recipe:
        match step:
            case "session":
                os.setsid()
            case "group":
                os.setpgid(0, 0)
            case "reaper":
                prctl(PR_SET_CHILD_SUBREAPER, 1)
            case "no reaper":
                prctl(PR_SET_CHILD_SUBREAPER, 0)
            case Child(steps):
                child(lambda steps=steps: _settle(gate, steps))  # type: ignore[misc]
            case Sibling(steps):
                if fork_sibling() == 0:
                    _settle(gate, steps)
                    os._exit(0)
            case Dying(steps):
                reap(child(lambda steps=steps: _live(gate, steps)))  # type: ignore[misc]
            case _:
                raise ValueError(f"unknown step {step!r}")


def _settle(gate: Gate, recipe: Recipe) -> None:
    _live(gate, recipe)
    gate.wait()
