"""What some tests need: tools that they compare with, which the host's tests install and a guest of another kind has
not; features of the kernel."""

from __future__ import annotations

import shutil

import pytest

from engine.kernel.features import memory


def needs_tool(name: str, package: str) -> None:
    """Skip the test unless there is such a program."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is missing (install {package})")


def needs_compiler() -> None:
    """cc, and binutils with it."""
    needs_tool("cc", "gcc")


def needs_write_protection() -> None:
    """By userfaultfd, without anybody who answers faults."""
    if not memory.wp_async():
        pytest.skip("needs feature wp_async: asynchronous write protection by userfaultfd")
