"""What a restore reads and checks before it creates anything, so that all that is wrong is said in one run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine import cpuinfo
from engine.errors import CrError
from engine.images.text import get_text
from engine.lazy.restored import LazyTasks
from engine.objects import external, table, tty_session
from engine.objects.restored_remap import RestoredRemaps
from engine.option_values import CPU_CAP_IMAGE
from engine.task import births, core, fs, mm, pstree, seccomp, vdso
from engine.task.rebuild import AddressSpace

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext, RestoredTask

Message = Any

_IMG_VERSIONS = (1, 2)
_EEXIST = 17


def prepare(ctx: RestoreContext, spaces: dict[int, AddressSpace]) -> tuple[RestoredTask, births.Plan]:
    """Read all images and check all that can be checked. Returns the root, and in which order the tree is made.

    spaces  gets the address space of every living task, by pid
    Raises Refused with every problem found. What can't be read is not checked further, all else is.
    """
    _check_options(ctx)
    ctx.part(LazyTasks).check()
    root = _read(ctx)
    ctx.images.await_whole()
    tree_is_whole = not ctx.problems
    for task in ctx.tasks:
        for tid in {task.pid, *(thread.tid for thread in task.threads)}:
            _check_pid(tid, "is in use", ctx)
    for task in ctx.living:
        _check_task(task, spaces, ctx)
    plan = None
    if root is not None:
        table.check(ctx)
        external.warn_unclaimed(ctx)
        if tree_is_whole:
            plan = _plan(root, ctx)
    ctx.problems.raise_if_any("restore")
    assert root is not None
    assert plan is not None
    return root, plan


def _check_options(ctx: RestoreContext) -> None:
    """What the user has named must be there, or must not."""
    opts, problems = ctx.opts, ctx.problems
    if opts.pidfile and os.path.lexists(opts.pidfile):
        problems.add(f"pid file {opts.pidfile} exists", remedy="remove it, or name another one")
    elif opts.pidfile and not os.path.isdir(os.path.dirname(opts.pidfile) or "."):
        problems.add(f"pid file {opts.pidfile}: No such file or directory", remedy="make the directory")
    external.check_descriptors(ctx)
    if opts.exec_cmd:
        import shutil

        if shutil.which(opts.exec_cmd[0]) is None:
            problems.add(f"--exec-cmd {opts.exec_cmd[0]}: No such file or directory")


def _read(ctx: RestoreContext) -> RestoredTask | None:
    """Fill the context. Returns the root; None when there is no telling who that is."""
    os.close(ctx.images.open("INVENTORY"))
    dumpers = None
    with ctx.problems:
        inventory = ctx.images.read_one("INVENTORY")
        check_inventory(inventory, ctx)
        _check_plugins(inventory, ctx)
        dumpers = inventory.root_ids
    root = None
    with ctx.problems:
        root = pstree.read(ctx)
    if dumpers:
        pstree.check_namespaces(ctx, dumpers)
    for task in ctx.living:
        with ctx.problems:
            task.mm = ctx.images.read_one("MM", task.pid)
        with ctx.problems:
            task.fs = ctx.images.read_one("FS", task.pid)
    table.read(ctx)
    with ctx.problems:
        seccomp.read(ctx)
    return root


def check_inventory(inventory: Message, ctx: RestoreContext) -> None:
    """Whether these are images that this engine can restore. Raises CrError."""
    if inventory.img_version not in _IMG_VERSIONS or not inventory.fdinfo_per_id:
        raise CrError(f"inventory.img: images of version {inventory.img_version} are not known to this engine")
    if inventory.pre_dump_mode:
        raise CrError("these images are of a pre-dump; a dump that builds on them can be restored")
    if inventory.tcp_close and not ctx.opts.tcp_close:
        ctx.problems.add("the dump dropped TCP connections", remedy="use --tcp-close")
    ctx.lsm = inventory.lsmtype
    if inventory.allow_uprobes and not ctx.opts.allow_uprobes:
        ctx.problems.add("the dump left out what uprobes had done to tasks", remedy="use --allow-uprobes")
    if ctx.opts.cpu_cap & CPU_CAP_IMAGE:
        for reason in cpuinfo.check_cpu(ctx.images, ctx.opts.cpu_cap):
            ctx.problems.add(reason)


def _check_plugins(inventory: Message, ctx: RestoreContext) -> None:
    """All plugins must be there that have dumped something."""
    for name in map(get_text, inventory.plugins_entry.plugins):
        if name not in ctx.plugins.names:
            ctx.missing_plugins.add(name)
            ctx.problems.add(f"the images need plugin {name!r}", remedy="put it into the directory of --libdir")


def _check_pid(pid: int, what: str, ctx: RestoreContext) -> None:
    if os.path.exists(f"/proc/{pid}"):
        ctx.problems.add(f"pid {pid} {what}", remedy="end the process that has it", cr_errno=_EEXIST)


def _check_task(task: RestoredTask, spaces: dict[int, AddressSpace], ctx: RestoreContext) -> None:
    with ctx.problems:
        core.check(task, ctx)
    if task.fs:
        fs.check(task, ctx)
    if task.mm:
        mm.check(task, ctx)
        vdso.check(task, ctx)
        with ctx.problems:
            spaces[task.pid] = AddressSpace(task, ctx)


def _plan(root: RestoredTask, ctx: RestoreContext) -> births.Plan | None:
    """Helpers have pids, too."""
    plan = None
    with ctx.problems:
        plan = births.Plan(root, ctx.tasks, ctx.part(RestoredRemaps).dead_pids, tty_session.foreground_groups(ctx))
        for helper, _ in plan.helpers:
            _check_pid(helper.pid, "is in use, but the leader of a session or group of the tree had it", ctx)
    return plan
