"""`zdtm coverage`: which of the kernel states in states.txt have a program.

What a program covers stands in its own header (`states:`). states.txt marks with + what had a program when it was
last written, so that a program which is removed, renamed or no longer says so is noticed: the command exits with 1, as
it does for a header that names a state nobody knows. `--mark` writes the marks anew, for the one who adds programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from zdtm.harness import header

HERE = Path(__file__).resolve().parent
STATES = HERE / "states.txt"
AREA = re.compile(r"\[([a-z0-9-]+): (.+)\]")
STATE = re.compile(r"([+ ]) ([a-z0-9-]+) +([a-z,]+) +(\S.*)")


@dataclass(frozen=True)
class State:
    """A line of states.txt."""

    id: str
    flavours: tuple[str, ...]
    words: str
    marked: bool
    """Had a program when the marks were written."""


@dataclass(frozen=True)
class Coverage:
    """What the headers say about the states."""

    states: list[State]
    programs: dict[str, list[header.Program]] = field(default_factory=dict)
    """id of a state -> its programs; also ids that no state has"""

    @property
    def covered(self) -> list[State]:
        return [state for state in self.states if state.id in self.programs]

    @property
    def missing(self) -> list[State]:
        return [state for state in self.states if state.id not in self.programs]

    @property
    def lost(self) -> list[State]:
        return [state for state in self.missing if state.marked]

    @property
    def refused(self) -> list[State]:
        """States of which no program expects more than a clean refusal."""
        return [state for state in self.covered if all(p.refusal is not None for p in self.programs[state.id])]

    @property
    def unknown(self) -> list[str]:
        return sorted(self.programs.keys() - {state.id for state in self.states})


def read_states(path: Path = STATES) -> list[State]:
    """Raises ValueError for a line that is none of comment, area and state."""
    states = []
    area = ""
    for line in path.read_text().splitlines():
        if match := AREA.fullmatch(line):
            area = match[1]
        elif match := STATE.fullmatch(line):
            states.append(State(f"{area}/{match[2]}", tuple(match[3].split(",")), match[4], match[1] == "+"))
        elif line and not line.startswith("#"):
            raise ValueError(f"{path}: not a state: {line}")
    return states


def measure(states: list[State], directory: Path = HERE) -> Coverage:
    """Raises header.BadHeader."""
    coverage = Coverage(states)
    for path in sorted(directory.glob("*/*")):
        if header.is_program(path):
            program = header.read(path)
            for state in program.states:
                coverage.programs.setdefault(state, []).append(program)
    return coverage


def report(coverage: Coverage, listed: Iterable[str]) -> str:
    """A table by areas, then the lists asked for of covered, missing, refused, and what is wrong."""
    lines = [f"{'area':<34}{'states':>8}{'covered':>9}{'refused':>9}{'missing':>9}"]
    areas = dict.fromkeys(_area(state) for state in coverage.states)
    kinds = [coverage.states, coverage.covered, coverage.refused, coverage.missing]
    for area in areas:
        counts = [sum(_area(state) == area for state in kind) for kind in kinds]
        lines.append(f"{area:<34}{counts[0]:>8}{counts[1]:>9}{counts[2]:>9}{counts[3]:>9}")
    lines.append(f"{'':<34}{len(kinds[0]):>8}{len(kinds[1]):>9}{len(kinds[2]):>9}{len(kinds[3]):>9}")
    for name in listed:
        lines += ["", f"{name}:"]
        for state in getattr(coverage, name):
            programs = " ".join(program.path.name for program in coverage.programs.get(state.id, ()))
            lines.append(f"  {state.id} ({','.join(state.flavours)}): {programs or state.words}")
    lines += [f"lost: {state.id} had a program and has none" for state in coverage.lost]
    for name in coverage.unknown:
        paths = ", ".join(str(program.path) for program in coverage.programs[name])
        lines.append(f"unknown: {name}, in the header of {paths}, is not in states.txt")
    return "\n".join(lines)


def mark(coverage: Coverage, path: Path = STATES) -> None:
    """Write the marks anew. Everything else in the file stays as it is."""
    area = ""
    lines = []
    for line in path.read_text().splitlines():
        if match := AREA.fullmatch(line):
            area = match[1]
        elif match := STATE.fullmatch(line):
            line = ("+" if f"{area}/{match[2]}" in coverage.programs else " ") + line[1:]
        lines.append(f"{line}\n")
    path.write_text("".join(lines))


def main(arguments: list[str]) -> int:
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="zdtm coverage", description="Which kernel states have a program, and which do not.")
    kinds = ["covered", "missing", "refused"]
    parser.add_argument("--list", choices=kinds, action="append", help="default: missing and refused")
    parser.add_argument("--mark", action="store_true", help="write down in states.txt what has a program")
    options = parser.parse_args(arguments)
    coverage = measure(read_states())
    if options.mark:
        mark(coverage)
        coverage = measure(read_states())
    print(report(coverage, options.list or ["missing", "refused"]))
    return 1 if coverage.lost or coverage.unknown else 0


def _area(state: State) -> str:
    return state.id.partition("/")[0]
