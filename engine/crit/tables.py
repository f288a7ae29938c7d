"""Tables: in columns of text for pipes, and drawn by rich on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from engine.crit.files import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = tuple[object, ...]


_WIDEST = 100
"""To what cells are filled up: images may claim names of any length."""


def show(columns: str, rows: Iterable[Row]) -> None:
    """Print a table. columns: their names; those that begin with > are right-aligned."""
    names = columns.split()
    if os.isatty(1):
        _draw(names, rows)
    else:
        _write(names, [tuple(map(str, row)) for row in rows])


def _write(names: list[str], rows: list[tuple[str, ...]]) -> None:
    heads = tuple(name.removeprefix(">") for name in names)
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(heads, *rows, strict=True)]
    if not names[-1].startswith(">"):
        widths[-1] = 0
    with Output(None) as out:
        for row in [heads, *rows]:
            cells = (
                cell.rjust(width) if name.startswith(">") else cell.ljust(width)
                for name, cell, width in zip(names, row, widths, strict=True)
            )
            out.write(("  ".join(cells).rstrip() + "\n").encode(errors="backslashreplace"))


def _draw(names: list[str], rows: Iterable[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


def say(*lines: str) -> None:
    """Print lines around tables."""
    with Output(None) as out:
        for line in lines:
            out.write(f"{line}\n".encode(errors="backslashreplace"))
