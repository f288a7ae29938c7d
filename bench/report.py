"""Rows as a table for people, and as JSON for programs."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.rows import Row

_VERDICT = {None: "", True: "met", False: "missed"}


def show(rows: Iterable[Row]) -> None:
    """Print each row when it comes. On a terminal, what is missed is red."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for row in rows:
        style = "red" if row.met is False else "default"
        console.print(_line(row), style=style, markup=False)


def _line(row: Row) -> str:
    goal = "" if row.goal is None else f"goal {'≥' if row.more_is_better else '≤'} {row.goal:g}: {_VERDICT[row.met]}"
    digits = 2 if row.value < 100 else 0
    return f"{row.what:36} {row.value:8.{digits}f} {row.unit:32} {goal:22} {row.note}".rstrip()


def as_json(rows: Iterable[Row]) -> dict[str, Any]:
    """{"machine": {...}, "rows": [{"what", "value", "unit", "note", "goal", "more_is_better", "met"}, ...]}."""
    return {"machine": dict(_machine()), "rows": [{**row._asdict(), "met": row.met} for row in rows]}


def _machine() -> Iterator[tuple[str, Any]]:
    yield "kernel", platform.release()
    yield "architecture", platform.machine()
    yield "processors", os.cpu_count()
    yield "python", platform.python_version()
