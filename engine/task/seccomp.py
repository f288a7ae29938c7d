"""Seccomp: strict mode and filters. seccomp.img holds the filters of the whole tree, each once, chained by `prev`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.tape.tape import Tape

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Task, Thread

Message = Any

_STRICT, _FILTER = 1, 2
_SET_MODE_STRICT, _SET_MODE_FILTER = 0, 1
_FLAG_TSYNC, _FLAG_LOG = 1, 2
_INSTRUCTION_SIZE = 8
_MAX_INSTRUCTIONS = 4096


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """Mode, and the index of the newest filter. A chain that is known already is not stored twice."""
    mode = thread.status.seccomp
    if not mode:
        return
    core.thread_core.seccomp_mode = mode
    if mode != _FILTER:
        return
    index, previous = 0, -1
    while (program := thread.tracee.seccomp_filter(index)) is not None:
        key = (previous, program, thread.tracee.seccomp_flags(index))
        previous = ctx.seccomp_filters.setdefault(key, len(ctx.seccomp_filters))
        index += 1
    core.thread_core.seccomp_filter = previous


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """A chain that all threads have is the first one's alone in images, and each of its filters says that it is synced:
    given to all threads at once, it is one object of the kernel again, which a later TSYNC of the task requires."""
    areas = [thread.core.thread_core for thread in task.threads]
    newest = areas[0].seccomp_filter
    if len(areas) < 2 or any((a.seccomp_mode, a.seccomp_filter) != (_FILTER, newest) for a in areas):
        return
    for area in areas[1:]:
        area.ClearField("seccomp_mode")
        area.ClearField("seccomp_filter")
    keys = list(ctx.seccomp_filters)
    while newest >= 0:
        ctx.synced_filters.add(newest)
        newest = keys[newest][0]


def write(ctx: DumpContext) -> None:
    """seccomp.img, always, maybe empty."""
    from engine.images.schema import message

    entry = message("seccomp_entry")()
    for index, (previous, program, flags) in enumerate(ctx.seccomp_filters):
        synced = _FLAG_TSYNC if index in ctx.synced_filters else 0
        filter_entry = entry.seccomp_filters.add(filter=program, flags=flags | synced)
        if previous >= 0:
            filter_entry.prev = previous
    ctx.images.write("SECCOMP", entry)


# Restore


def read(ctx: RestoreContext) -> None:
    """The filters by index."""
    if ctx.images.exists("SECCOMP"):
        ctx.seccomp_filters = list(ctx.images.read_one("SECCOMP").seccomp_filters)


def _chain(ctx: RestoreContext, newest: int) -> list[Message]:
    """The filters of a thread, oldest first. `prev` always points backwards, so a chain ends."""
    chain = []
    index = newest
    while True:
        entry = ctx.seccomp_filters[index]
        chain.append(entry)
        if not entry.HasField("prev"):
            return chain[::-1]
        if entry.prev >= index:
            raise IndexError(index)
        index = entry.prev


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """Chains must be there and be programs of a possible size."""
    for thread in task.threads:
        area = thread.core.thread_core
        if area.seccomp_mode != _FILTER:
            continue
        try:
            sizes = [len(entry.filter) for entry in _chain(ctx, area.seccomp_filter)]
        except IndexError:
            ctx.problems.add(f"seccomp.img lacks a filter of thread {thread.tid}", task.pid, "the image is damaged")
            continue
        if any(size % _INSTRUCTION_SIZE or not 0 < size <= _MAX_INSTRUCTIONS * _INSTRUCTION_SIZE for size in sizes):
            ctx.problems.add("seccomp.img has a filter that is no program", task.pid, "the image is damaged")


def restore_thread(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """Before the credentials, since a filter needs CAP_SYS_ADMIN or no_new_privs. From here on until it is let go the
    stub runs with seccomp suspended (PTRACE_O_SUSPEND_SECCOMP), so no filter judges what is still to be done."""
    area = thread.core.thread_core
    if area.seccomp_mode:
        thread.stub.suspend_seccomp()
    if area.seccomp_mode == _STRICT:
        tape.call("seccomp", _SET_MODE_STRICT, 0, 0)
    elif area.seccomp_mode == _FILTER:
        for entry in _chain(ctx, area.seccomp_filter):
            program = tape.words(len(entry.filter) // _INSTRUCTION_SIZE, tape.buffer(entry.filter))
            tape.call("seccomp", _SET_MODE_FILTER, entry.flags & (_FLAG_TSYNC | _FLAG_LOG), program)
