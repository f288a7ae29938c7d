"""An item, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zdtm.harness.header import Program

ITEM_SECONDS = 400.0
"""For the whole item; the steps have their own, so this is for a harness that hangs."""


class Bad(Exception):
    """judge: program, engine, oracle, host."""

    def __init__(self, judge: str, text: str) -> None:
        super().__init__(text)
        self.judge = judge
        self.text = text


class NothingToSabotage(Exception):
    """The images hold no state of the kind that was to be damaged."""


@dataclass(frozen=True)
class Item:
    """What is to be run, settled before the sandbox is made."""

    program: Program
    command: list[str]
    """runs the program"""
    engine: list[str]
    """the engine's command line up to the verb"""
    restorer: list[str]
    """the same of the engine that restores"""
    directory: Path
    """the item's own; on a failure it is the artifact"""
    program_environment: dict[str, str]
    engine_environment: dict[str, str]
    sabotage: str | None
    ignored: frozenset[str]
    """kinds of facts that the oracle is not to compare in this run"""
    scale: float
    """factor for all deadlines"""
