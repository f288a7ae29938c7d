"""What a dump does while the tree still runs, so that it stands still for a shorter time."""

from __future__ import annotations

import contextlib

from engine.kernel.proc_locks import read_locks
from engine.kernel.proc_maps import map_file, read_smaps, stat_map_file
from engine.kernel.proc_stat import read_stat
from engine.kernel.proc_status import read_status
from engine.kernel.procfs import read_limits
from engine.objects import build_ids
from engine.task import cgroups, pstree

_MESSAGES = (
    "core_entry",
    "file_entry",
    "fs_entry",
    "inventory_entry",
    "mm_entry",
    "pagemap_head",
    "pstree_entry",
    "remap_file_path_entry",
    "seccomp_entry",
    "stats_entry",
    "timens_entry",
)


def load_ahead() -> None:
    """Load and find out while the tree still runs, not while it waits, what nearly every dump needs."""
    import engine.kernel.elf
    import engine.objects.memfd
    import engine.objects.regular  # noqa: F401
    from engine.images.runs import low_addresses
    from engine.images.schema import message
    from engine.kernel.pagemap_scan import can_scan, guard_category, task_size
    from engine.task import cpu_state

    for name in _MESSAGES:
        message(name)()
    cpu_state.load_ahead()
    low_addresses()
    pstree.own_namespaces()
    cgroups.own_groups()
    if can_scan():
        guard_category()
        task_size()


def rehearse(pid: int) -> None:
    """Read the root task while it runs. What is read again when it stands is then in the caches of the kernel, and the
    code that reads it is in memory and has been specialised by the interpreter."""
    with contextlib.suppress(OSError):
        read_stat(pid), read_status(pid), read_limits(pid)
        leased = {lock.ino for lock in read_locks() if lock.kind == "LEASE"}
        for vma in read_smaps(pid):
            if vma.ino:
                build_ids.read_ahead(map_file(pid, vma), vma, stat_map_file(pid, vma), leased)
