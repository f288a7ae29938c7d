"""dump --snapshot: the memory of the tasks is that of their twins (tape/birth.py), written when they themselves run on.

Not every task gets a twin. One may be refused: by a limit on processes (RLIMIT_NPROC, pids.max), for want of memory,
by a security module or a kernel without user namespaces. Then the log says so, and the task writes its memory itself
while the tree stands, as in every dump.
"""

from __future__ import annotations

import contextlib
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import dump_memory, log
from engine.errors import text_of
from engine.images.runs import PRESENT
from engine.tape.birth import Unborn, bear, or_unborn
from engine.tape.foster import Foster
from engine.task import pages
from engine.task import vma as vmas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from engine.dump_context import DumpContext
    from engine.kernel.memory import Memory
    from engine.tape.cave import Cave
    from engine.tape.twin import Twin
    from engine.task.pages import Run
    from engine.task.tree import Task

    Message = Any

_FIRST_TO_GO = "1000"
"""oom_score_adj: a dump that has failed harms nobody."""
_RSEQ_SIZE = 32


class Deputy(NamedTuple):
    """Who writes the memory of a task in its place: see pages.Owner."""

    pid: int
    core: Message
    visit: Twin
    memory: Memory


class Twins:
    """The twins of one dump, as a context manager that ends them.

    writing   what is to be done once the tasks run on: the writers of the twins' memory
    """

    def __init__(self) -> None:
        self.writing: list[Iterator[int]] = []
        self._fosters: dict[int, Foster | OSError] = {}
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.__exit__(kind, error, trace)

    def write(self, ctx: DumpContext) -> None:
        """Have what they know written, the tasks running on, and end them."""
        log.info("The tasks run on, their twins write what their memory was")
        dump_memory.run_writers(ctx, self.writing)
        self._ends.close()

    def prepare(self, uid: int) -> None:
        """Have a foster parent ready for the tasks of a user. To make one takes a while."""
        if uid not in self._fosters:
            try:
                self._fosters[uid] = self._ends.enter_context(Foster(uid))
            except OSError as error:
                self._fosters[uid] = error

    @staticmethod
    def may_look_later(ctx: DumpContext, task: Task, layout: Message, cave: Cave) -> bool:
        """Whether which pages there are to be stored can be seen in its twin, just as in the task."""
        stored = [entry for entry in layout.vmas if vmas.has_pages(entry)]
        in_vdso = any(entry.start <= cave.address < entry.end for entry in stored if entry.status & vmas.VDSO)
        return in_vdso and not (ctx.parent or task.may_be_probed) and all(map(vmas.is_inherited, stored))

    def stand_in(self, task: Task, layout: Message, runs: list[Run] | None) -> Deputy | None:
        """A twin of a task that is being visited, with all that these runs have; None: its children have all of them.
        Returns None for a task that has to write its memory itself."""
        missing = list(_not_inherited(layout, runs or []))
        if sum(map(pages.size_of, missing)) > pages.size_of(runs or []) // 2:
            log.warn(f"Task {task.pid}: children don't get most of its memory, so it is written at once")
            return None
        try:
            twin = self._bear(task)
            with or_unborn():
                _forget_birth(task, twin)
                for mapping in missing:
                    first, last = mapping[0], mapping[-1]
                    twin.fill(first.start, last.end, task.memory, [(run.start, run.end) for run in mapping])
        except Unborn as reason:
            log.warn(f"Task {task.pid}: can't be given a twin, so its memory is written at once: {reason}")
            return None
        return Deputy(task.pid, task.core, twin, twin.memory)

    def _bear(self, task: Task) -> Twin:
        assert task.visit is not None
        uid = task.leader.status.uids.effective
        self.prepare(uid)
        foster = self._fosters[uid]
        if isinstance(foster, OSError):
            raise Unborn(text_of(foster))
        twin = bear(task.visit, foster)
        self._ends.callback(twin.close)
        with contextlib.suppress(OSError), open(f"/proc/{twin.tid}/oom_score_adj", "w") as file:
            file.write(_FIRST_TO_GO)
        return twin


def _forget_birth(task: Task, twin: Twin) -> None:
    """The kernel has told the child on which processor it ran: where the task's leader has its restartable sequences
    (rseq(2)), which a fork inherits."""
    rseq = task.leader.core.thread_core.rseq_entry
    if rseq.rseq_abi_pointer:
        size = max(rseq.rseq_abi_size, _RSEQ_SIZE)
        twin.memory.write(rseq.rseq_abi_pointer, task.memory.read(rseq.rseq_abi_pointer, size))


def _not_inherited(layout: Message, runs: list[Run]) -> Iterator[list[Run]]:
    """What is to be stored of each mapping that a child does not get, of those that have any."""
    stored = deque(run for run in runs if run.flags & PRESENT)
    for entry in layout.vmas:
        if vmas.is_inherited(entry) or not vmas.has_pages(entry):
            continue
        while stored and stored[0].start < entry.start:
            stored.popleft()
        found = []
        while stored and stored[0].start < entry.end:
            found.append(stored.popleft())
        if found:
            yield found
