"""crucible crit verify: is a set of images whole, and could it be restored here? Nothing is made and nothing changed.

What a restore checks before it makes anything is checked by the very code of restore (engine/restore_check.py), with
the options that the restore would have.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine import argv
from engine.check import NEEDED
from engine.crit import tables
from engine.crit.files import printable
from engine.crit.wholeness import References, check_files, image_files
from engine.errors import Problems
from engine.images.directory import ImageDir
from engine.images.text import get_text
from engine.kernel.features import reason_against
from engine.objects import KIND_BY_TYPE
from engine.objects.restored_remap import RestoredRemaps
from engine.plugins import Plugins
from engine.plugins.sources import load
from engine.restore_check import prepare
from engine.restore_context import RestoreContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.task.rebuild import AddressSpace

Message = Any

_REG = 1


def verify(path: str, options: list[str]) -> None:
    """Print what a restore of these images needs here. options: of that restore.

    Raises Refused with everything that is wrong with the images, or that stands against restoring them here.
    """
    opts = argv.parse(["restore", "--images-dir", path, *options])
    spaces: dict[int, AddressSpace] = {}
    with ImageDir(path, bounded=True) as images:
        ctx = RestoreContext(opts, images, Plugins(load(opts, "verify")))
        problems = Problems()
        names = image_files(path)
        check_files(path, problems)
        try:
            with problems:
                prepare(ctx, spaces)
            ctx.problems = problems
            if ctx.tasks:
                References(ctx).check(names)
            missing = list(_missing_features(ctx))
            for feature, reason in missing:
                problems.add(f"feature {feature} is missing: {reason}", remedy="restore on another kernel")
            _report(ctx, names, {feature for feature, _ in missing})
        finally:
            for space in spaces.values():
                space.close()
            ctx.clean_up()
    problems.raise_if_any("verify")


def _missing_features(ctx: RestoreContext) -> Iterator[tuple[str, str]]:
    for feature in _features(ctx):
        reason = reason_against(feature)
        if reason is not None:
            yield feature, reason


def _features(ctx: RestoreContext) -> list[str]:
    """What the kernel must be able to do: what every restore needs, and what is due to something in the images."""
    wanted = dict.fromkeys(NEEDED)
    for task in ctx.living:
        if task.mm and task.mm.aios:
            wanted["aio_remap"] = None
        if task.core.tc.HasField("loginuid"):
            wanted["loginuid"] = None
    for entry in ctx.entries.values():
        if entry.HasField("tunf"):
            wanted["tun"] = None
        if entry.HasField("isk") and entry.isk.ip_opts.freebind:
            wanted["ipv6_freebind"] = None
    for inode in ctx.images.read("MEMFD_INODE"):
        if inode.hugetlb_flag:
            wanted["memfd_hugetlb"] = None
    return list(wanted)


def _report(ctx: RestoreContext, names: list[str], missing: set[str]) -> None:
    threads = sum(len(task.threads) for task in ctx.living)
    size = sum(os.lstat(os.path.join(ctx.images.name, name)).st_size for name in names)
    counts = f"{len(names)} images, {size} bytes: {len(ctx.tasks)} tasks with {threads} threads"
    tables.say(f"{counts}, {len(ctx.entries)} files.", "", "A restore needs these pids:", "")
    tables.show(">PID TASK STATE", [_pid(tid, task, comm) for task, tid, comm in _pids(ctx)])
    tables.say("", "these files, as they were:", "")
    tables.show("STATE >SIZE BUILD-ID FILE", list(_files(ctx)))
    features = [feature if feature not in missing else f"{feature} (missing)" for feature in _features(ctx)]
    tables.say("", "and these features of the kernel:", "", *(f"  {feature}" for feature in features))


def _pids(ctx: RestoreContext) -> Iterator[tuple[int, int, str]]:
    """(task, thread, name)."""
    for task in ctx.tasks:
        name = get_text(task.core.tc.comm) if task.core is not None else ""
        for tid in dict.fromkeys([task.pid, *(thread.tid for thread in task.threads)]):
            yield task.pid, tid, name


def _pid(tid: int, task: int, comm: str) -> tuple[object, ...]:
    what = printable(comm) + ("" if tid == task else f", thread of {task}")
    return tid, what, "in use" if os.path.exists(f"/proc/{tid}") else "free"


def _files(ctx: RestoreContext) -> Iterator[tuple[object, ...]]:
    """Files by their paths, each once, with what the restore has to say to it."""
    problems, seen = ctx.problems, set()
    for entry in ctx.entries.values():
        if entry.type != _REG:
            continue
        file = entry.reg
        build_id = b"".join(word.to_bytes(4, "little") for word in file.build_id).hex()
        row = (file.size if file.HasField("size") else "-", build_id or "-", printable(get_text(file.name)))
        if row not in seen:
            seen.add(row)
            ctx.problems = Problems()
            with ctx.problems:
                KIND_BY_TYPE[_REG].check(file, ctx)
            is_kept = not ctx.problems and entry.id in ctx.part(RestoredRemaps)
            yield "in images" if is_kept else "differs" if ctx.problems else "ok", *row
    ctx.problems = problems
