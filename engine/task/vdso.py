"""vDSO and vvar: the kernel's own mappings go back to where the task had them, or are led to by a bridge.

A task knows where the functions of its vDSO are: from the auxiliary vector, and from looking them up once. On the
kernel of the dump it is enough to move the new mappings to the old addresses.

Another kernel has other code there. Then the old vDSO comes back as what it looks like, a page or two of code, in which
every function begins with a jump to the one of the same name in the running kernel's vDSO; that lies wherever there is
room. The old vvar, which only the old code knew, is gone. A function that the running kernel's vDSO does not have
becomes the system call that it saves: getrandom is there since Linux 6.11. What can't be bridged is refused: a thread
that was inside of the vDSO, and a function that neither is here nor stands for a system call.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import CrError
from engine.images.runs import PAGE
from engine.kernel.elf_symbols import dynamic_symbols
from engine.kernel.libc import MACHINE, NR
from engine.tape import arch as architectures
from engine.tape.stub import STUB_SIZE
from engine.task import cpu_state, mm
from engine.task import vma as vmas

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape

Message = Any

_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_PROT_READ, _PROT_EXEC = 1, 4
_SIGRETURN = "sigreturn"
"""Part of the names of what is not called but returned to. It needs no data, so the old one will do."""

_ENTER_ENCLAVE = "__vdso_sgx_enter_enclave"
"""Where kernels are built without SGX it is missing. It needs no data either, and no restored task has an enclave."""

_STANDS_FOR = {
    prefix + name: name
    for prefix in ("", "__vdso_", "__kernel_")
    for name in ("clock_getres", "clock_gettime", "getcpu", "getrandom", "gettimeofday", "time")
}
"""Function of the vDSO -> the system call that does the same with the same arguments. What getrandom gets beside them,
memory for the state of its generator, may go unused; it is asked how much that takes only when a program starts."""


class _Bridge(NamedTuple):
    """Of the functions of an old vDSO by their offsets in it.

    start  of the old vDSO
    jumps  offsets in the running kernel's
    calls  numbers of system calls
    """

    start: int
    jumps: dict[int, int]
    calls: dict[int, int]


class _Bridges:
    """By pid, of the tasks that need one."""

    def __init__(self, _: RestoreContext) -> None:
        self.of: dict[int, _Bridge] = {}


def _wanted(layout: Message) -> list[Message]:
    return [entry for entry in layout.vmas if entry.status & (vmas.VDSO | vmas.VVAR)]


# Before anything exists


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """See whether a task's vDSO is the running kernel's. Else its mappings become ordinary ones here."""
    wanted = _wanted(task.mm)
    old = next((entry for entry in wanted if entry.status & vmas.VDSO), None)
    if old is None:
        return
    with ctx.problems:
        content = _content(task, old, ctx)
        same_sizes = [entry.end - entry.start for entry in wanted] == running_sizes()
        if same_sizes and (content is None or _symbols(content) == _running_symbols()):
            return
        if content is None:
            raise CrError(f"task {task.pid}: its vDSO is another kernel's, and its code is not in the images")
        _refuse_inside(task, old, ctx)
        ctx.part(_Bridges).of[task.pid] = _bridge(task, old.start, _symbols(content))
        for entry in wanted:
            task.mm.vmas.remove(entry)
        _add_ordinary(task.mm, old)


def _content(task: RestoredTask, entry: Message, ctx: RestoreContext) -> bytes | None:
    """What the images have for the vDSO; None unless that is all of it."""
    from engine.images.pagemap import PageReader

    with PageReader(ctx.images, task.pid) as reader:
        segments = reader.segments(entry.start, entry.end)
        content = b"".join(os.pread(fd, nr_pages * PAGE, offset) for _, nr_pages, fd, offset in segments)
    return content if len(content) == entry.end - entry.start else None


@cache
def _symbols(content: bytes) -> dict[str, int]:
    try:
        return dynamic_symbols(content, MACHINE)
    except ValueError as error:
        raise CrError(f"the vDSO in the images is none: {error}") from error


@cache
def _running_symbols() -> dict[str, int]:
    """Of the engine's own vDSO, which is the one that all tasks of this kernel have."""
    start, end = _running_mappings()[-1]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        return _symbols(memory.read(end - start))


def _refuse_inside(task: RestoredTask, old: Message, ctx: RestoreContext) -> None:
    for thread in task.threads:
        if old.start <= cpu_state.ip(thread.core) < old.end:
            problem = f"thread {thread.tid} was inside of its vDSO, which is another kernel's"
            ctx.problems.add(problem, task.pid, "dump it again, or restore it on the kernel of the dump")


def _bridge(task: RestoredTask, start: int, old: dict[str, int]) -> _Bridge:
    """Raises CrError when a function has no counterpart, or no room for a jump before the next one begins."""
    running = _running_symbols()
    functions = {name: offset for name, offset in old.items() if _SIGRETURN not in name}
    missing = functions.keys() - running.keys() - {_ENTER_ENCLAVE}
    lost = sorted(name for name in missing if _STANDS_FOR.get(name) not in NR)
    if lost:
        remedy = "restore it on the kernel of the dump"
        raise CrError(f"task {task.pid}: this kernel's vDSO lacks {', '.join(lost)} ({remedy})")
    jumps = {offset: running[name] for name, offset in functions.items() if name in running}
    calls = {functions[name]: NR[_STANDS_FOR[name]] for name in missing}
    borders = sorted(set(old.values()))
    room = len(architectures.current().jump(0))
    for offset, following in zip(borders, borders[1:], strict=False):
        if following - offset < room and (offset in jumps or offset in calls):
            raise CrError(f"task {task.pid}: a function of its vDSO, at {offset:#x}, has no room for a jump")
    return _Bridge(start, jumps, calls)


def _add_ordinary(layout: Message, old: Message) -> None:
    """Private memory in place of the vDSO, at its place among the mappings."""
    index = sum(entry.start < old.start for entry in layout.vmas if entry.status != vmas.GUARD)
    entry = type(old)(
        start=old.start, end=old.end, pgoff=0, shmid=0, prot=_PROT_READ | _PROT_EXEC, fd=-1,
        flags=vmas.MAP_PRIVATE | vmas.MAP_ANONYMOUS, status=vmas.REGULAR | vmas.ANON_PRIVATE,
    )  # fmt: skip
    layout.vmas.insert(index, entry)


def _running_mappings() -> list[tuple[int, int]]:
    """The engine's own vvar and vDSO mappings, ascending by address: the vDSO is the last."""
    with open("/proc/self/maps") as maps:
        bounds = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(("[vdso]", "[vvar]", "clock]"))]
    return [(int(start, 16), int(end, 16)) for start, end in bounds]


@cache
def running_sizes() -> list[int]:
    """Sizes of the engine's own vvar and vDSO mappings, ascending by address."""
    return [end - start for start, end in _running_mappings()]


# In the task


def restore(tape: Tape, task: RestoredTask, parked: list[tuple[int, int]], ctx: RestoreContext) -> None:
    """Move the parked mappings to the places of the image's, or to where the bridge leads; a task that had unmapped
    them gets none. They stay side by side: the code finds the data by its distance."""
    bridge = ctx.part(_Bridges).of.get(task.pid)
    places = [entry.start for entry in _wanted(task.mm)]
    if bridge:
        stub = task.stub.base, task.stub.base + STUB_SIZE
        start = mm.free_area([task.mm], sum(size for _, size in parked), [stub])
        places = [start + address - parked[0][0] for address, _ in parked]
        arch = architectures.current()
        code = {offset: arch.system_call(number) for offset, number in bridge.calls.items()}
        code |= {offset: arch.jump(places[-1] + target) for offset, target in bridge.jumps.items()}
        for offset, instructions in code.items():
            task.stub.memory.write(bridge.start + offset, instructions)
    for (address, size), place in zip(parked, places, strict=False):
        tape.call("mremap", address, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, place)
    for address, size in parked[len(places) :]:
        tape.call("munmap", address, size)
