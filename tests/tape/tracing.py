"""Tasks under ptrace for the tests of visits: seized, stopped, entered, and looked at afterwards."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.kernel import ptrace
from engine.kernel.memory import Memory
from engine.tape.cave import find_cave
from engine.tape.restart import show_restart
from engine.tape.visit import SCRATCH_SIZE, Visit

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = ptrace.O_TRACESYSGOOD | ptrace.O_SUSPEND_SECCOMP
_LOWEST = 0x10000


def seize(tid: int) -> ptrace.Tracee:
    """A thread, seized and stopped as the engine does it."""
    tracee = ptrace.Tracee.seize(tid, _OPTIONS)
    tracee.interrupt()
    tracee.wait_for_stop()
    show_restart(tracee)
    return tracee


def visit_of(tracee: ptrace.Tracee, pid: int) -> Visit:
    """A visit to a stopped thread, to be entered. Its handles live as long as the test's process."""
    memory = Memory(pid)
    cave = find_cave(memory, executable(pid), Visit.cave_size())
    return Visit(tracee, os.pidfd_open(pid), memory, cave, _free_area(pid))


@contextmanager
def visiting(pid: int, tid: int = 0) -> Iterator[Visit]:
    """Inside of a thread, the leader by default. It runs on afterwards."""
    tracee = seize(tid or pid)
    visit = visit_of(tracee, pid)
    try:
        with visit:
            yield visit
    finally:
        visit.memory.close()
        os.close(visit.pidfd)
        tracee.detach()


def executable(pid: int) -> list[tuple[int, int]]:
    """(start, end) of the executable mappings, the vDSO first."""
    with open(f"/proc/{pid}/maps") as lines:
        found = [line.split() for line in lines if line.split()[1] == "r-xp"]
    found.sort(key=lambda words: words[-1] != "[vdso]")
    return [(int(start, 16), int(end, 16)) for start, _, end in (words[0].partition("-") for words in found)]


def maps(pid: int) -> list[tuple[int, int, str]]:
    """(start, end, name) of every mapping."""
    found = []
    with open(f"/proc/{pid}/maps") as lines:
        for line in lines:
            bounds, _, _, _, _, *name = line.split(None, 5)
            start, _, end = bounds.partition("-")
            found.append((int(start, 16), int(end, 16), name[0].strip() if name else ""))
    return found


def _free_area(pid: int) -> int:
    place = _LOWEST
    for start, end, _ in maps(pid):
        if start >= place + SCRATCH_SIZE:
            break
        place = max(place, end)
    return place


def traces(pid: int) -> dict[str, object]:
    """All that a visit leaves in no case in a task: descriptors, mappings, masks, a tracer."""
    found: dict[str, object] = {"descriptors": sorted(os.listdir(f"/proc/{pid}/fd")), "mappings": maps(pid)}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status") as status:
            found[tid] = [line for line in status if line.startswith(("SigBlk", "TracerPid", "Seccomp"))]
    return found


def code(pid: int) -> list[bytes]:
    """The bytes of all executable mappings. An engine that is killed leaves the way home there."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return [os.pread(memory.fileno(), end - start, start) for start, end in executable(pid)]


def is_blocked_in(tid: int, number: int) -> bool:
    """Whether a thread sleeps inside a system call."""
    with open(f"/proc/{tid}/syscall") as file:
        return file.read().split()[0] == str(number)
