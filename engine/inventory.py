"""inventory.img: what kind of images these are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.task import cgroups, lsm, pstree

if TYPE_CHECKING:
    from engine.dump_context import DumpContext

_IMG_VERSION = 2


def write(ctx: DumpContext, pre_dump_mode: int | None = None) -> None:
    """The last file: a directory without it is no dump. pre_dump_mode: of images that are only to be a parent."""
    from engine.images.schema import message

    inventory = message("inventory_entry")(
        img_version=_IMG_VERSION,
        fdinfo_per_id=True,
        ns_per_id=True,
        root_ids=pstree.own_ids(),
        root_cg_set=cgroups.OWN_SET,
        lsmtype=ctx.part(lsm.Module).kind,
        dump_criu_run_id=_run_id(),
    )
    inventory.plugins_entry.plugins.extend(sorted(ctx.plugins.used))
    inventory.plugins_entry.SetInParent()
    if ctx.watch and (ctx.opts.track_mem or pre_dump_mode):
        inventory.dump_uptime = ctx.uptime
        ctx.watch.end(inventory)
    if pre_dump_mode:
        inventory.pre_dump_mode = pre_dump_mode
    if ctx.opts.tcp_close:
        inventory.tcp_close = True
    if ctx.opts.allow_uprobes:
        inventory.allow_uprobes = True
    ctx.images.write("INVENTORY", inventory)


def _run_id() -> str:
    """A random UUID. The uuid module would take 2 ms to be imported."""
    fd = os.open("/proc/sys/kernel/random/uuid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)
