"""The linters, as tests: what they find is told like any other failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "--quiet", "--output-format=concise", "."], id="ruff"),
        pytest.param(["mypy", "--strict", "--no-error-summary", "engine", "zdtm", "ci"], id="mypy"),
    ],
)
def test_linter_finds_nothing(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
