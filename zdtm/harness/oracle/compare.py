"""The differences between two pictures, as facts and as text to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from zdtm.harness.oracle.memory import page_differences
from zdtm.harness.oracle.picture import KINDS, Picture

NOTHING = "(nothing)"
LONGEST_VALUE = 400
MOST_LINES_A_KIND = 30


@dataclass(frozen=True)
class Difference:
    """One fact that changed. `owner` is a task ("task 2") or an object."""

    owner: str
    kind: str
    key: str
    before: str
    after: str


def differences(before: Picture, after: Picture, kinds: set[str]) -> list[Difference]:
    """Every fact of these kinds that is not the same in both."""
    found = [item for item in _facts(before, after) if item.kind in kinds]
    if "memory" in kinds:
        found += _memory(before, after)
    return sorted(found, key=lambda item: (item.owner, KINDS.index(item.kind)))


def _facts(before: Picture, after: Picture) -> Iterator[Difference]:
    for pid in sorted(before.tasks.keys() | after.tasks.keys()):
        owner = f"task {pid}"
        old, new = before.tasks.get(pid), after.tasks.get(pid)
        if old is None or new is None:
            yield Difference(owner, "tree", "is", *("there" if task else NOTHING for task in (old, new)))
            continue
        for kind in old.keys() | new.keys():
            yield from _changed(owner, kind, old.get(kind, {}), new.get(kind, {}))
    for name in before.contents.keys() & after.contents.keys():
        yield from _changed(name, "contents", before.contents[name], after.contents[name])


def _memory(before: Picture, after: Picture) -> Iterator[Difference]:
    for pid in sorted(before.pages.keys() & after.pages.keys()):
        for where, was, now in page_differences(before.pages[pid], after.pages[pid], after.vmas[pid], pid):
            yield Difference(f"task {pid}", "memory", where, was, now)


def _changed(owner: str, kind: str, old: dict[str, str], new: dict[str, str]) -> Iterator[Difference]:
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            yield Difference(owner, kind, key, old.get(key, NOTHING), new.get(key, NOTHING))


def as_text(found: Iterable[Difference]) -> str:
    """Grouped by task and kind:

    task 2
      files
        5 pos
          - 10
          + 0
    """
    lines = []
    for owner, items in groupby(found, key=lambda item: item.owner):
        lines.append(owner)
        for kind, group in groupby(items, key=lambda item: item.kind):
            members = list(group)
            lines.append(f"  {kind}")
            for item in members[:MOST_LINES_A_KIND]:
                lines += [f"    {item.key}", f"      - {_brief(item.before)}", f"      + {_brief(item.after)}"]
            if len(members) > MOST_LINES_A_KIND:
                lines.append(f"    ... and {len(members) - MOST_LINES_A_KIND} more")
    return "\n".join(lines)


def _brief(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}... ({len(value)} characters)"
