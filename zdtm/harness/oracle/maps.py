"""A task's mappings, from /proc/PID/smaps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zdtm.harness.oracle.names import Names, opener

HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)\s*(.*)$")

KERNEL_OWNED = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
"""Contents come from the kernel, and so do address and size of some."""
TRACERS_OWN = ("[uprobes]", "[uprobes-trampoline]")
"""There or not as a tracer of the system likes."""
NO_CONTENT = {"io", "pf", "dp"}
"""VmFlags of mappings of devices, and of droppable memory, which the kernel may empty at any time"""
NOT_COMPARED = {"sd", "nr"}
"""VmFlags. sd: soft-dirty is a mark left by dumps. nr: MAP_NORESERVE matters when the mapping is made, not later."""


@dataclass(frozen=True)
class Vma:
    """One mapping, or several of one kind in a row: the kernel may or may not have merged those."""

    start: int
    end: int
    rights: str
    """as in maps: "rw-p" """
    offset: int
    what: str
    """file, by its name in the picture, or "[heap]", "[anon:name]", "" """
    flags: frozenset[str]
    """VmFlags"""
    is_file: bool

    @property
    def private(self) -> bool:
        return self.rights[3] == "p"

    @property
    def has_content(self) -> bool:
        return self.what not in KERNEL_OWNED and not self.flags & NO_CONTENT

    def __str__(self) -> str:
        place = f" at {self.offset:#x}" if self.is_file else ""
        flags = " ".join(sorted(self.flags - NOT_COMPARED))
        return f"{self.rights} {self.what or 'anonymous'}{place} [{flags}]"

    def continues(self, before: Vma) -> bool:
        same = (self.rights, self.what, self.flags) == (before.rights, before.what, before.flags)
        offset_fits = not self.is_file or self.offset == before.offset + before.end - before.start
        return same and offset_fits and self.start == before.end


def read_maps(pid: int, names: Names) -> list[Vma]:
    """All mappings in order, neighbours of one kind joined."""
    joined: list[Vma] = []
    for vma in _read(pid, names):
        if joined and vma.continues(joined[-1]):
            joined[-1] = replace(joined[-1], end=vma.end)
        else:
            joined.append(vma)
    return joined


def _read(pid: int, names: Names) -> Iterator[Vma]:
    files: dict[tuple[str, str], str] = {}
    head: re.Match[str] | None = None
    for line in Path(f"/proc/{pid}/smaps").read_text(errors="backslashreplace").splitlines():
        if line[0] in "0123456789abcdef" and (match := HEAD.match(line)):
            head = match
        elif line.startswith("VmFlags:") and head and head[7] not in TRACERS_OWN:
            yield _vma(pid, head, frozenset(line.split()[1:]), names, files)


def _vma(pid: int, head: re.Match[str], flags: frozenset[str], names: Names, files: dict[tuple[str, str], str]) -> Vma:
    start, end, offset = (int(head[index], 16) for index in (1, 2, 4))
    what, is_file = head[7], head[6] != "0"
    if is_file:
        key = (head[5], head[6])
        if key not in files:
            files[key] = _file_name(pid, f"{start:x}-{end:x}", names)
        what = files[key]
    return Vma(start, end, head[3], offset if is_file else 0, what, flags, is_file)


def _file_name(pid: int, span: str, names: Names) -> str:
    path = f"/proc/{pid}/map_files/{span}"
    return names.of(os.readlink(path), os.stat(path), f"{pid}:{span}", opener(path))
