"""That the benchmarks run and say what they promise. How fast anything is depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from math import isfinite
from typing import TYPE_CHECKING

import pytest

from bench.measure import BENCHMARKS
from bench.report import as_json
from bench.rows import Row

if TYPE_CHECKING:
    from pathlib import Path

_TINY = ["--runs", "1", "--mebibytes", "8", "--divisor", "50"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_runs(name: str) -> None:
    """Each in a process of its own: orphans go to it."""
    words = [sys.executable, "-m", "bench", "--json", *_TINY, name]
    run = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(run.stdout)
    assert found["machine"]["processors"] >= 1
    assert found["rows"]
    assert all(row["what"] and row["unit"] and isfinite(row["value"]) for row in found["rows"])


def test_the_table() -> None:
    words = [sys.executable, "-m", "bench", *_TINY, "startup"]
    run = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    assert run.stdout.startswith("start of dump to its first act")
    assert "goal ≤ 60" in run.stdout


def test_another_engine(tmp_path: Path) -> None:
    """Any that takes the same command line will do: here it is our own under another name."""
    other = tmp_path / "other"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -m engine "$@"\n')
    other.chmod(0o700)
    words = [sys.executable, "-m", "bench", "--json", *_TINY, "--engine", str(other), "small"]
    run = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    units = [row["unit"] for row in json.loads(run.stdout)["rows"]]
    assert units == ["ms", "of the time of other"] * 2


def test_an_engine_that_fails() -> None:
    words = [sys.executable, "-m", "bench", *_TINY, "--engine", "/bin/false", "small"]
    run = subprocess.run(words, check=False, capture_output=True, text=True)
    assert run.returncode != 0
    assert "/bin/false dump" in run.stderr


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", 4.0, "ms", goal=5.0), True),
        (Row("a", 6.0, "ms", goal=5.0), False),
        (Row("a", 0.9, "", goal=0.8, more_is_better=True), True),
        (Row("a", 0.7, "", goal=0.8, more_is_better=True), False),
        (Row("a", 4.0, "ms"), None),
    ],
)
def test_goals(row: Row, met: bool | None) -> None:
    assert as_json([row])["rows"][0]["met"] is met
