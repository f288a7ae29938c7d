"""Tools that some tests compare with. The host's tests install them; a guest of another architecture has none."""

from __future__ import annotations

import shutil

import pytest


def needs_tool(name: str, package: str) -> None:
    """Skip the test unless there is such a program."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is missing (install {package})")


def needs_compiler() -> None:
    """cc, and binutils with it."""
    needs_tool("cc", "gcc")
