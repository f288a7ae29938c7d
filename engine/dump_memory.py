"""The memory of a tree: every task is visited, asked what only it knows, and writes its pages down.

A pre-dump differs in that the tasks go on at once: what their pages held is copied while they run, and what changes
meanwhile is left to the next dump, as watch.py finds it.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

from engine.images.runs import LAZY, PAGE, PRESENT
from engine.kernel.memory import Memory
from engine.kernel.pagemap import private_pages
from engine.kernel.proc_maps import PROT_EXEC
from engine.tape.cave import find_cave
from engine.tape.tape import Tape
from engine.tape.visit import SCRATCH_SIZE, Visit
from engine.task import core, mm, pages, uprobes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.dump_context import DumpContext
    from engine.tape.cave import Cave
    from engine.task.tree import Task, Thread

Message = Any


class Copy:
    """What a pre-dump has to copy of a task. memory: stays that of the program which the task was then running."""

    def __init__(self, task: Task, runs: list[pages.Run]) -> None:
        self.pid = task.pid
        self.runs = runs
        self.memory = Memory(task.proc)

    def write(self, ctx: DumpContext) -> None:
        from engine.task import increment

        with ctx.sinks.open("PAGEMAP", self.pid) as sink:
            sink.write((run.start, (run.end - run.start) // PAGE, run.flags) for run in self.runs)
            for size in increment.copy_running(self.memory, self.runs, sink):
                ctx.progress.add(size)
        _count(ctx, self.runs)

    def close(self) -> None:
        self.memory.close()


def watch(ctx: DumpContext, tasks: list[Task], mms: dict[int, Message]) -> list[Copy]:
    """In the frozen tree: find what is to be copied, and have changes be noticed from now on."""
    assert ctx.watch is not None
    copies = [Copy(task, _to_store(ctx, task, mms[task.pid])) for task in tasks]
    for copy in copies:
        ctx.progress.expect(pages.size_of(copy.runs))
    ctx.watch.begin()
    for task in tasks:
        if ctx.watch.needs_visit(task):
            with _Entrance(task, mms[task.pid]).visit(task.leader) as task.visit:
                ctx.watch.watch(task, mms[task.pid].vmas)
        else:
            ctx.watch.watch(task, mms[task.pid].vmas)
    return copies


def write(ctx: DumpContext, tasks: list[Task], mms: dict[int, Message]) -> None:
    """Visit every task: ask it what only it knows, and let all of them write their memory at the same time."""
    with ExitStack() as visits:
        writers: list[Iterator[int]] = []
        for task in tasks:
            entrance = _Entrance(task, mms[task.pid])
            for thread in task.threads[1:]:
                with entrance.visit(thread) as visit:
                    _ask(visit, core.ask_thread, thread)
            layout = mms[task.pid]
            may_wait = ctx.twins is not None and ctx.twins.may_look_later(ctx, task, layout, entrance.cave)
            runs = None if may_wait else _to_store(ctx, task, layout)
            if runs and ctx.opts.lazy_pages:
                runs = _leave_lazy(ctx, task, runs)
            task.visit = visits.enter_context(entrance.visit(task.leader))
            tape = Tape()
            answers = [mm.ask_task(tape, task, layout), *core.ask_thread(tape, task.leader)]
            task.visit.run(tape)
            for answer in answers:
                answer()
            deputy = ctx.twins.stand_in(task, layout, runs) if ctx.twins else None
            if runs is None and not deputy:
                runs = _to_store(ctx, task, layout)
            ctx.progress.expect(pages.size_of(runs or []))
            through = ctx.twins.writing if ctx.twins and deputy else writers
            through.append(_write_memory(ctx, deputy or task, runs, layout, entrance.cave))
        if ctx.watch and ctx.opts.track_mem:
            ctx.watch.begin()
            for task in tasks:
                ctx.watch.watch(task, mms[task.pid].vmas)
        run_writers(ctx, writers)


def run_writers(ctx: DumpContext, writers: list[Iterator[int]]) -> None:
    """Have memory written. writers: yield bytes that are under way."""
    with ctx.stats.timing("memdump_time"), ctx.progress:
        for size in chain.from_iterable(writers) if ctx.sinks.one_at_a_time else _together(writers):
            ctx.progress.add(size)


class _Entrance:
    """Where in a task its visits take place. Found once, before the first."""

    def __init__(self, task: Task, layout: Message) -> None:
        self._task = task
        self.cave = find_cave(task.memory, _executable(task), Visit.cave_size())
        self._scratch = mm.free_area([layout], SCRATCH_SIZE)

    def visit(self, thread: Thread) -> Visit:
        return Visit(thread.tracee, self._task.pidfd, self._task.memory, self.cave, self._scratch)


def _to_store(ctx: DumpContext, task: Task, layout: Message) -> list[pages.Run]:
    """All its pages, those that did not change since the parent images left to them. What the kernel writes to a
    ring of aio no page table tells."""
    runs = pages.runs_to_store(layout, uprobes.own_pages(task, private_pages(task.proc)))
    if ctx.watch is None or ctx.parent is None or not ctx.parent.knows(task):
        return runs
    from engine.task import increment

    rings = {ring.id for ring in layout.aios}
    watched = [(run.start, run.end) for run in runs if run.start not in rings]
    unchanged = list(ctx.watch.unchanged(task, watched, ctx.parent))
    return increment.refer_to_parent(runs, increment.common(unchanged, ctx.parent.stored(task)))


def _leave_lazy(ctx: DumpContext, task: Task, runs: list[pages.Run]) -> list[pages.Run]:
    """--lazy-pages: what can be fetched later stays in the task."""
    from engine.lazy import frozen

    left = frozen.leave_lazy(runs)
    ctx.part(frozen.FrozenPages).keep(task, left)
    return left


def _count(ctx: DumpContext, runs: list[pages.Run]) -> None:
    for run in runs:
        nr_pages = (run.end - run.start) // PAGE
        ctx.stats.pages_scanned += nr_pages
        if run.flags & PRESENT:
            ctx.stats.pages_written += nr_pages
        elif run.flags == LAZY:
            ctx.stats.pages_lazy += nr_pages
        else:
            ctx.stats.pages_skipped_parent += nr_pages


def _ask(visit: Visit, ask: Any, thread: Any) -> None:
    tape = Tape()
    answers = ask(tape, thread)
    visit.run(tape)
    for answer in answers:
        answer()


def _write_memory(
    ctx: DumpContext, task: pages.Owner, runs: list[pages.Run] | None, layout: Message, cave: Cave
) -> Iterator[int]:
    """Its page map and pages, to where they go. runs: None for those that a deputy has. Yields bytes under way."""
    from engine.transport.sink import FileSink

    def original(start: int, end: int) -> bytes | None:
        if not start <= cave.address < end:
            return None
        content = bytearray(task.memory.read(start, end - start))
        at = cave.address - start
        content[at : at + cave.size] = cave.original
        return bytes(content)

    if runs is None:
        runs = pages.runs_to_store(layout, iter(private_pages(task.memory.tid)))
        ctx.progress.expect(pages.size_of(runs))
    with ctx.sinks.open("PAGEMAP", task.pid) as sink:
        sink.write((run.start, (run.end - run.start) // PAGE, run.flags) for run in runs)
        _count(ctx, runs)
        if isinstance(sink, FileSink):
            yield from pages.write_pages(task, runs, sink.file, original)
        else:
            from engine.task.page_stream import send_pages

            yield from send_pages(task, runs, sink, original)


def _together(writers: list[Iterator[int]]) -> Iterator[int]:
    """Step each of them once round and round: while one waits for its task, the tasks of the others work."""
    waiting = deque(writers)
    while waiting:
        writer = waiting.popleft()
        size = next(writer, None)
        if size is not None:
            waiting.append(writer)
            yield size


def _executable(task: Task) -> list[tuple[int, int]]:
    """(start, end) of the executable mappings that are the task's alone, the vDSO first."""
    vmas = [vma for vma in task.vmas if vma.prot & PROT_EXEC and not vma.shared and vma.name != "[vsyscall]"]
    return [(vma.start, vma.end) for vma in sorted(vmas, key=lambda vma: vma.name != "[vdso]")]
