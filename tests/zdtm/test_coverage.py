"""Which kernel states have a program: none that had one loses it unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdtm import coverage

LIST = """# what the suite is to cover
[pipes: pipes & fifos]
+ full    h,ns,uns  a pipe that is full
+ empty   h         a pipe with nothing in it
  strange ns        a pipe nobody thought of
"""


@pytest.fixture
def states(tmp_path: Path) -> Path:
    path = tmp_path / "states.txt"
    path.write_text(LIST)
    (tmp_path / "static").mkdir()
    return path


def program(states: Path, name: str, header: str) -> None:
    (states.parent / "static" / name).write_text(f'"""A program.\n\n{header}\n"""\n')


def measured(states: Path) -> coverage.Coverage:
    return coverage.measure(coverage.read_states(states), states.parent)


def ids(states: list[coverage.State]) -> list[str]:
    return [state.id for state in states]


def test_no_state_has_lost_its_program() -> None:
    known = coverage.measure(coverage.read_states())
    assert not known.lost, coverage.report(known, [])
    assert not known.unknown, coverage.report(known, [])


def test_state_without_its_program_is_lost(states: Path) -> None:
    program(states, "one.py", "states: pipes/full")
    found = measured(states)
    assert (ids(found.covered), ids(found.missing)) == (["pipes/full"], ["pipes/empty", "pipes/strange"])
    assert ids(found.lost) == ["pipes/empty"]
    assert "lost: pipes/empty had a program and has none" in coverage.report(found, [])


def test_state_of_refusing_programs_only_is_told_apart(states: Path) -> None:
    program(states, "one.py", "states: pipes/full, pipes/empty\nexpect: refuse")
    program(states, "other.py", "states: pipes/full")
    assert ids(measured(states).refused) == ["pipes/empty"]


def test_header_with_unknown_state(states: Path) -> None:
    program(states, "one.py", "states: pipes/fulll")
    assert measured(states).unknown == ["pipes/fulll"]


def test_marks_are_written_anew(states: Path) -> None:
    program(states, "one.py", "states: pipes/strange, pipes/full")
    coverage.mark(measured(states), states)
    assert [state.marked for state in coverage.read_states(states)] == [True, False, True]
    assert states.read_text() == LIST.replace("+ empty", "  empty").replace("  strange", "+ strange")


def test_line_that_is_no_state(states: Path) -> None:
    states.write_text(LIST + "+ Full h a pipe\n")
    with pytest.raises(ValueError, match="not a state"):
        coverage.read_states(states)
