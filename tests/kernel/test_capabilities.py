"""Names of capabilities."""

from __future__ import annotations

import re
import subprocess

from engine.kernel.capabilities import capability_names
from tests.tools import needs_compiler


def test_names_are_the_kernels() -> None:
    needs_compiler()
    macros = subprocess.run(
        ["cc", "-E", "-dM", "-include", "linux/capability.h", "-x", "c", "/dev/null"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    numbers = {name: int(number) for name, number in re.findall(r"#define (CAP_[A-Z_]+) (\d+)\n", macros)}
    assert len(numbers) > 38
    assert {name: capability_names(1 << number) for name, number in numbers.items()} == {name: name for name in numbers}


def test_a_set() -> None:
    assert capability_names(1 << 5 | 1 << 21 | 1 << 63) == "CAP_KILL, CAP_SYS_ADMIN, capability 63"
    assert capability_names(0) == ""
