"""Uprobes: what a tracer of the system, perf or bpftrace, leaves in the tasks that run a probed file.

The kernel puts a breakpoint into the text, in the task's own copy of the page, and gives the task a mapping in which
the displaced instruction is run (kernel/events/uprobes.c). Both belong to the tracer. With --allow-uprobes the mapping
is left out and so are pages that differ from the file in nothing but breakpoints: the restored task maps the file, and
the kernel itself puts breakpoints there for the probes that exist then. The mapping is made when the first breakpoint
is met: there may be breakpoints without it.

A page that was changed otherwise as well is stored as it is. A function with a return probe must not be running: its
return address is one in the left-out mapping.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.images.runs import PAGE
from engine.kernel.proc_maps import PROT_EXEC, map_file
from engine.tape import arch as architectures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.dump_context import DumpContext
    from engine.kernel.proc_maps import Vma
    from engine.task.tree import Task

_NAMES = ("[uprobes]", "[uprobes-trampoline]")
_BREAKPOINTS = {"x86_64": b"\xcc", "aarch64": bytes.fromhex("a00020d4")}
_NOP, _CALL = bytes.fromhex("0f1f440000"), 0xE8
"""Since Linux 6.18 a probe on this long nop of x86 becomes a call (arch/x86/kernel/uprobes.c)."""


def leave_out(ctx: DumpContext, task: Task, vmas: list[Vma]) -> list[Vma]:
    """The mappings that are not the probes'. Without --allow-uprobes those are a problem."""
    task.may_be_probed = ctx.opts.allow_uprobes
    if not task.may_be_probed and any(vma.name in _NAMES for vma in vmas):
        ctx.problems.add("uprobes are set on it", task.pid, "remove them, or use --allow-uprobes")
    return [vma for vma in vmas if vma.name not in _NAMES]


def own_pages(task: Task, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Those parts of ascending page ranges that hold more than breakpoints."""
    if not task.may_be_probed:
        yield from ranges
        return
    probed = _probed_pages(task, ranges := list(ranges))
    for start, end in ranges:
        position = start
        for page in range(start, end, PAGE):
            if page in probed:
                if position < page:
                    yield position, page
                position = page + PAGE
        if position < end:
            yield position, end


def _probed_pages(task: Task, ranges: list[tuple[int, int]]) -> set[int]:
    found: set[int] = set()
    for vma in task.vmas:
        if not vma.prot & PROT_EXEC or vma.shared or not vma.ino:
            continue
        link = os.open(map_file(task.proc, vma), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, end in ranges:
                for page in range(max(start, vma.start), min(end, vma.end), PAGE):
                    original = os.pread(link, PAGE, vma.pgoff + page - vma.start).ljust(PAGE, b"\0")
                    if differs_in_breakpoints(task.memory.read(page, PAGE), original):
                        found.add(page)
        finally:
            os.close(link)
    return found


def differs_in_breakpoints(page: bytes, original: bytes) -> bool:
    """Whether a page is that of the file but for breakpoints, one at least."""
    breakpoint_ = _BREAKPOINTS[architectures.current().NAME]
    size = len(breakpoint_)
    places = [at for at in range(0, len(page), size) if page[at : at + size] != original[at : at + size]]
    return bool(places) and all(
        page[at : at + size] == breakpoint_ or _is_in_call(page, original, at) for at in places
    )


def _is_in_call(page: bytes, original: bytes, at: int) -> bool:
    starts = range(max(at - len(_NOP) + 1, 0), at + 1)
    return any(original[start : start + len(_NOP)] == _NOP and page[start] == _CALL for start in starts)
