"""A picture of a process tree: all that can be seen of it from outside, in names that survive a checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from zdtm.harness.init import descendants
from zdtm.harness.oracle.files import add_file_facts
from zdtm.harness.oracle.kernel import KCMP_FS, KCMP_IO, KCMP_SIGHAND, KCMP_SYSVSEM, KCMP_VM, first_of_same, kcmp
from zdtm.harness.oracle.maps import Vma, read_maps
from zdtm.harness.oracle.memory import Pages, read_contents, read_pages
from zdtm.harness.oracle.names import Names
from zdtm.harness.oracle.tasks import Facts, face, task_facts, thread_ids

KINDS = (
    "tree tty threads mm fs namespaces limits timers misc cgroup creds seccomp signals sched "
    "files locks sockets ttys sharing maps memory contents"
).split()
"""What a picture has facts of; `oracle: ignore` takes these words."""

STEADY_KINDS = ("tree", "creds", "limits")
"""What a program in transition does not change."""

SHARABLE = {"memory": KCMP_VM, "cwd and umask": KCMP_FS, "handlers": KCMP_SIGHAND, "io": KCMP_IO, "undo": KCMP_SYSVSEM}

QUIET_SECONDS = 0.003
PARKING_NANOSECONDS = 20_000_000
LONGEST_UNREST = 5.0


@dataclass
class Picture:
    """tasks: pid -> facts; for a leader that is dead, those of another thread as well. The rest is what takes more than
    text to compare."""

    tasks: dict[int, Facts] = field(default_factory=dict)
    vmas: dict[int, list[Vma]] = field(default_factory=dict)
    pages: dict[int, Pages] = field(default_factory=dict)
    contents: dict[str, dict[str, str]] = field(default_factory=dict)
    """name of an unlinked file -> contents"""


def take(
    root: int, kinds: set[str], *, rseq: dict[int, list[int]] | None = None, before: Picture | None = None
) -> Picture:
    """Look at the tree below root, once it is quiet if its memory is wanted, once its root is if its signals are.

    kinds   which facts are wanted; the costly ones are read only if they are
    rseq    where the kernel writes into the memory of each process, see stir.py; by default the places of `before`
    before  an earlier picture this one will be compared with: pages it has are read here too
    """
    if "memory" in kinds:
        wait_until_quiet(root)
    elif "signals" in kinds:
        _wait_until_parked(root)
    names = Names()
    picture = Picture(_tasks(root, names, changing="tree" not in kinds))
    living = [pid for pid, facts in picture.tasks.items() if facts["tree"]["state"] != "zombie"]
    if kinds & {"files", "locks", "sockets", "ttys"}:
        add_file_facts(picture.tasks, living, names)
    if "sharing" in kinds:
        _add_sharing(picture, living)
    if kinds & {"maps", "memory", "contents"}:
        for pid in living:
            earlier = before.pages.get(pid) if before is not None else None
            areas = earlier.rseq if earlier is not None else (rseq or {}).get(pid, [])
            _add_memory(picture, pid, names, areas, earlier)
    if "contents" in kinds:
        picture.contents = {name: _contents(open_it) for name, open_it in names.unlinked.items()}
    return picture


def _tasks(root: int, names: Names, *, changing: bool) -> dict[int, Facts]:
    """changing: tasks may come and go meanwhile. Otherwise FileNotFoundError or ProcessLookupError when one does."""
    tasks = {}
    for pid in sorted(descendants(root)):
        try:
            tasks[pid] = task_facts(pid, names)
            if (other := face(pid)) != pid:
                tasks[other] = task_facts(other, names)
        except (FileNotFoundError, ProcessLookupError):
            if not changing:
                raise
    return tasks


def wait_until_quiet(root: int) -> None:
    """Wait until every thread sleeps and none has been switched to for a while.

    READY is said just before the program goes to sleep, and after a restore tasks run up to where they waited.
    Raises TimeoutError for a program that does not come to rest.
    """
    end = time.monotonic() + LONGEST_UNREST
    seen = _activity(root)
    while True:
        time.sleep(QUIET_SECONDS)
        now = _activity(root)
        if now == seen and not any(state == "R" for state, _ in now.values()):
            return
        if time.monotonic() > end:
            busy = ", ".join(str(tid) for tid, what in now.items() if what != seen.get(tid) or what[0] == "R")
            raise TimeoutError(
                f"not at rest after {LONGEST_UNREST:g} s: threads {busy}. Memory that changes cannot be compared: "
                "a program that must be busy says `oracle: ignore memory: reason`"
            )
        seen = now


def _wait_until_parked(root: int) -> None:
    """Wait until the root sleeps, or is seen to be one that never does.

    From READY on it is on its way into sigwaitinfo(), which unblocks SIGTERM as long as it waits: the mask differs.
    That way is short. How long it takes depends on who else wants the processor, so it is the root's own time that
    tells a busy program from one that is still on its way.
    """
    end = time.monotonic() + LONGEST_UNREST
    start = _ran(root)
    while _is_running(root) and _ran(root) - start < PARKING_NANOSECONDS and time.monotonic() < end:
        time.sleep(QUIET_SECONDS)


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"


def _ran(pid: int) -> int:
    """For how many nanoseconds it has had a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _activity(root: int) -> dict[int, tuple[str, int]]:
    """Thread -> its state and how often it was switched to."""
    found = {}
    for pid in descendants(root):
        for tid in thread_ids(pid):
            lines = Path(f"/proc/{pid}/task/{tid}/status").read_text().splitlines()
            state = next(line for line in lines if line.startswith("State:")).split()[1]
            switches = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
            found[tid] = state, switches
    return found


def _add_sharing(picture: Picture, living: list[int]) -> None:
    for name, what in SHARABLE.items():
        first = first_of_same(living, partial(_compare_owners, what))
        for pid in living:
            if first[pid] != pid:
                picture.tasks[pid].setdefault("sharing", {})[name] = f"that of {first[pid]}"


def _compare_owners(what: int, one: int, two: int) -> int:
    return kcmp(one, two, what)


def _add_memory(picture: Picture, pid: int, names: Names, rseq: list[int], earlier: Pages | None) -> None:
    vmas = read_maps(pid, names)
    picture.vmas[pid] = vmas
    picture.tasks[pid]["maps"] = {f"{vma.start:x}-{vma.end:x}": str(vma) for vma in vmas}
    picture.pages[pid] = read_pages(pid, vmas, rseq, earlier)


def _contents(open_it: Callable[[], int]) -> dict[str, str]:
    try:
        descriptor = open_it()
    except OSError as problem:
        return {"cannot be opened": os.strerror(problem.errno or 0)}
    try:
        return read_contents(descriptor)
    except OSError as problem:
        return {"cannot be read": os.strerror(problem.errno or 0)}
    finally:
        os.close(descriptor)
