"""vDSO and vvar: the kernel's own mappings go back to where the task had them.

The vDSO's address is known to the task (auxv, resolved symbols), so it must be the old one; its code belongs to the
running kernel. When the image's mappings have the sizes of the running kernel's, moving is enough.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from engine.task import vma as vmas

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape

Message = Any

_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2


def _wanted(mm: Message) -> list[Message]:
    return [entry for entry in mm.vmas if entry.status & (vmas.VDSO | vmas.VVAR)]


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The mappings must have the sizes of the running kernel's."""
    running = running_sizes()
    sizes = [entry.end - entry.start for entry in _wanted(task.mm)]
    if sizes and sizes != running:
        ctx.problems.add(
            f"its vDSO mappings have the sizes {sizes}, this kernel's have {running}",
            task.pid,
            "restore it on the kernel it was dumped on",
        )


@cache
def running_sizes() -> list[int]:
    """Sizes of the engine's own vvar and vDSO mappings, ascending by address."""
    with open("/proc/self/maps") as maps:
        bounds = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(("[vdso]", "[vvar]", "clock]"))]
    return [int(end, 16) - int(start, 16) for start, end in bounds]


def restore(tape: Tape, mm: Message, parked: list[tuple[int, int]]) -> None:
    """Move the parked mappings to the places of the image's; a task that had unmapped them gets none."""
    wanted = _wanted(mm)
    for (address, size), entry in zip(parked, wanted, strict=False):
        tape.call("mremap", address, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, entry.start)
    for address, size in parked[len(wanted) :]:
        tape.call("munmap", address, size)
