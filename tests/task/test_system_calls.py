"""Tapes and the engine itself make only system calls that both architectures have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.kernel.syscall_numbers import syscall_numbers

ENGINE = Path(__file__).parents[2] / "engine"
X86_ONLY = {"arch_prctl"}
"""What is asked for on x86 only, by a probe for features."""
CALL = re.compile(r"""(?:tape\.call\(|\bNR\[)\s*"(\w+)\"""")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers(machine: str) -> None:
    numbers = syscall_numbers(machine)
    used = {name: path for path in ENGINE.rglob("*.py") for name in CALL.findall(path.read_text())}
    assert len(used) > 50
    assert {name: path.name for name, path in used.items() if name not in {*numbers, *X86_ONLY}} == {}
