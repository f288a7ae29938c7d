"""Which programs are told of for taking long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from zdtm.harness import header, slow


def report(name: str, seconds: float, reason: str | None = None) -> SimpleNamespace:
    program = header.Program(Path(name), "It is.", slow=reason)
    return SimpleNamespace(nodeid=name, user_properties=slow.properties(program, {"start": 0.5, "dump": seconds - 0.5}))


def test_those_that_take_longer_than_the_others_without_a_reason() -> None:
    usual = [report(f"{number}.py::h-cli", 1) for number in range(9)]
    named = [report("reason.py::h-cli", 9, "it waits"), report("mode.py::h-iters", 9)]
    late = [report("late.py::h-cli", 2.1), report("later.py::h-cli", 3)]
    lines = slow.unexplained([*usual, *named, *late], 1)
    assert [line.partition(":")[0] for line in lines] == ["later.py", "late.py"]
    assert lines[0].startswith("later.py::h-cli takes 3.0 s: ")
    assert [line.partition(":")[0] for line in slow.unexplained([*usual, *late], 1.25)] == ["later.py"]


def test_a_busy_machine() -> None:
    assert slow.unexplained([report(f"{number}.py::h-cli", 5 + number / 10) for number in range(9)], 1) == []


def test_nothing_has_passed() -> None:
    assert slow.unexplained([], 1) == []


def test_a_reason_must_say_something(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text('"""One pipe.\n\nslow: it waits\n    for a second\n"""\n')
    assert header.read(program).slow == "it waits for a second"
    program.write_text('"""One pipe.\n\nslow:\n"""\n')
    with pytest.raises(header.BadHeader, match='should read "slow: reason"'):
        header.read(program)
