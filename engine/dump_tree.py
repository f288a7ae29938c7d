"""The steps of a dump: freeze a tree, find out everything, and only then write it down.

Everything that can stand against a dump is found while nothing has been changed yet, and is said at once. What
changes a task at all is the visit (tape/visit.py), from which it comes back by itself, and hard links that are made
for files without a name (--link-remap), which a failed dump takes away again.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import cpuinfo, dump_memory, inventory, log
from engine.action_scripts import ActionScripts
from engine.dump_ahead import load_ahead, rehearse
from engine.dump_context import DumpContext
from engine.errors import CrError, text_of
from engine.kernel.proc_status import read_status
from engine.objects.table import DumpedTables
from engine.option_values import CPU_CAP_IMAGE
from engine.places import images_of
from engine.plugins import running
from engine.stats import DumpStats
from engine.task import core, freezer, fs, mm, pstree
from engine.task.seize import FrozenTree
from engine.task.tree import DEAD
from engine.transport.sink import sinks_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from engine.dump_twins import Twins
    from engine.images.directory import ImageDir
    from engine.options import Options
    from engine.task.tree import Task
    from engine.task.watch import Parent, Watch
    from engine.transport.sink import PageSinks

Message = Any

_POST_DUMP_FAILED = 255


def dump_tree(opts: Options, root_pid: int, commit: Callable[[], None]) -> int:
    """Dump the tree below root_pid. commit: see engine/worker.py. Returns the exit status; raises CrError."""
    try:
        return _dump_tree(opts, root_pid, commit)
    except OSError as error:
        what = f"the tree of task {root_pid} can't be dumped: {text_of(error)}"
        raise CrError(what).with_traceback(error.__traceback__) from error


def _dump_tree(opts: Options, root_pid: int, commit: Callable[[], None]) -> int:
    load_ahead()
    scripts = ActionScripts(opts)
    stats = DumpStats()
    with (
        running(opts, "dump") as plugins,
        images_of(opts) as images,
        sinks_of(opts, images) as sinks,
        _incremental(images, opts, sinks) as (parent, way),
        _lazy(opts) as server,
        _twins(opts, root_pid) as twins,
        ExitStack() as undo,
    ):
        if not scripts.run("pre-dump"):
            raise CrError("the pre-dump script failed, nothing has been dumped")
        images.hold_back()
        rehearse(root_pid)
        log.info(f"Freezing the tree of task {root_pid}")
        with FrozenTree(root_pid, opts.timeout, plugins.pause, freezer.of(opts)) as tree:
            with stats.timing("freezing_time"):
                tree.freeze()
            with stats.timing("frozen_time"):
                if opts.client:
                    opts.client.ask_for_externals(opts, (task.pid for task in tree.root.walk()))
                ctx = DumpContext(opts, images, sinks, tree.root, stats, parent, way, plugins)
                ctx.twins = twins
                undo.callback(ctx.undo)
                _dump(ctx)
                status = _conclude(ctx, scripts)
                confirm = _serve(ctx, scripts, server) if server and not status else None
                if not status and not opts.leave_running:
                    undo.pop_all()
                    commit()
                    _end(tree, opts)
            tree.await_reaping()
            if confirm:
                confirm()
        if twins:
            twins.write(ctx)
            _complete(ctx)
        _settle(images, opts, status)
        stats.write(opts)
        undo.pop_all()
    log.info("Dumping finished successfully" if not status else "The post-dump script failed, tasks run on")
    return status


@contextlib.contextmanager
def _incremental(images: ImageDir, opts: Options, sinks: PageSinks) -> Iterator[tuple[Parent | None, Watch | None]]:
    """The images to build on and how changes are found, for dumps that have to do with that."""
    if opts.prev_images_dir is None and not opts.track_mem:
        yield None, None
        return
    from engine.task import watch

    with watch.parent_of(images, opts, sinks) as parent, watch.best(parent) as way:
        yield parent, way


@contextlib.contextmanager
def _lazy(opts: Options) -> Iterator[socket.socket | None]:
    """Where a dump that leaves pages in the tree is going to serve them."""
    if not opts.lazy_pages:
        yield None
        return
    from engine.lazy import frozen

    with frozen.listening(opts) as server:
        yield server


def _serve(ctx: DumpContext, scripts: ActionScripts, server: socket.socket) -> Callable[[], None]:
    """Let a restore elsewhere fetch what has been left in the tree. Returns what tells it of the tree's end."""
    from engine.lazy import frozen

    ctx.images.settle()
    return partial(frozen.confirm, frozen.serve(ctx.opts, scripts, server, ctx.part(frozen.FrozenPages)))


@contextlib.contextmanager
def _twins(opts: Options, root_pid: int) -> Iterator[Twins | None]:
    """The twins of the tasks, with --snapshot. The root's user is likely to be that of all tasks."""
    if not opts.snapshot:
        yield None
        return
    from engine.dump_twins import Twins

    with Twins() as twins:
        with contextlib.suppress(OSError):
            twins.prepare(read_status(root_pid).uids.effective)
        yield twins


def _settle(images: ImageDir, opts: Options, status: int) -> None:
    """The images are what they shall be. The dump is complete, whatever comes of deduplication."""
    images.settle()
    images.conclude(not status)
    if opts.auto_dedup and not status:
        from engine.dedup import punch_parents

        try:
            punch_parents(images)
        except CrError as error:
            log.warn(error.message)


def _conclude(ctx: DumpContext, scripts: ActionScripts) -> int:
    """What comes last while the tree stands. Returns the exit status; when it is not 0, tasks run on.

    Tasks that run on in any case do so before the small images are written: if that fails, the dump has failed, and no
    failure of a dump stops them. All others wait for it, and so do scripts, which may look at the images.
    """
    if not ctx.opts.leave_running or ctx.opts.action_script:
        ctx.images.settle()
    if scripts.run("post-dump", init_pid=ctx.root.pid):
        return 0
    ctx.plugins.failure = CrError("the post-dump script failed")
    return _POST_DUMP_FAILED


def _end(frozen: FrozenTree, opts: Options) -> None:
    """The final state of tasks that do not run on."""
    if opts.leave_stopped:
        frozen.stop()
    else:
        frozen.kill()


class _Found(NamedTuple):
    """What there is to write but memory, by pid. fs_entries: when files have been described."""

    tables: DumpedTables
    living: list[Task]
    ids: dict[int, Message]
    mms: dict[int, Message]
    fs_entries: dict[int, Message]


def _dump(ctx: DumpContext) -> None:
    found = _find_out(ctx)
    ctx.problems.raise_if_any("dump")
    ctx.images.renew(ctx.opts.prev_images_dir)
    ctx.on_failure(ctx.images.discard)
    if ctx.watch:
        ctx.on_failure(ctx.watch.undo)
    _describe(ctx, found)
    ctx.problems.raise_if_any("dump")

    dump_memory.write(ctx, found.living, found.mms)
    _write(ctx, found)
    if ctx.twins:
        found.tables.close()
    else:
        _complete(ctx)


def _find_out(ctx: DumpContext) -> _Found:
    """All that can be learnt without writing anything. What stands against the dump is in ctx.problems."""
    tables = DumpedTables(ctx)
    ids = pstree.collect_ids(ctx)
    pstree.check_leaders(ctx)
    living = [task for task in ctx.tasks if task.state != DEAD]
    for task in living:
        ctx.plugins.tell("CHECKPOINT_DEVICES", f"task {task.pid}", task.pid)
    mms: dict[int, Message] = {}
    for task in living:
        core.collect(ctx, task)
        mms[task.pid] = mm.collect(ctx, task)
        tables.collect(task, ids[task.pid].files_id)
    tables.refuse()
    if ctx.problems:
        _find_more(ctx, living, mms)
    return _Found(tables, living, ids, mms, {})


def _find_more(ctx: DumpContext, living: list[Task], mms: dict[int, Message]) -> None:
    """The dump is refused. What would only be found when files are described, which writes, is to be said as well."""
    for task in living:
        mm.refuse_files(ctx, task, mms[task.pid])
        fs.refuse(ctx, task)


def _describe(ctx: DumpContext, found: _Found) -> None:
    """Open files and those that are mapped, worked in or run. Files without a name are written, or get one."""
    for task in found.living:
        mm.describe_files(ctx, task, found.mms[task.pid])
    for task in found.living:
        found.fs_entries[task.pid] = fs.collect(ctx, task)
    found.tables.describe()


def _write(ctx: DumpContext, found: _Found) -> None:
    """All images but those of memory."""
    found.tables.write()
    pstree.write(ctx)
    for task in ctx.tasks:
        if task.state == DEAD:
            ctx.images.write("CORE", core.of_zombie(ctx, task), task.pid)
            continue
        ctx.images.write("IDS", found.ids[task.pid], task.pid)
        ctx.images.write("MM", found.mms[task.pid], task.pid)
        ctx.images.write("FS", found.fs_entries[task.pid], task.pid)
        for thread in task.all_threads:
            ctx.images.write("CORE", thread.core, thread.tid)
    core.write_shared(ctx)
    if ctx.opts.cpu_cap & CPU_CAP_IMAGE:
        cpuinfo.write(ctx.images)
    _write_clocks(ctx)
    ctx.plugins.tell("DUMP_DEVICES_LATE", f"task {ctx.root.pid}", ctx.root.pid)


def _complete(ctx: DumpContext) -> None:
    """All pages have been written: what makes these files a dump."""
    ctx.sinks.finish()
    inventory.write(ctx)


def _write_clocks(ctx: DumpContext) -> None:
    """timens-0.img: the clocks of the tree's time namespace at the dump, written for the host's as well."""
    from engine.images.schema import message

    entry = message("timens_entry")()
    for field, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
        seconds, nanoseconds = divmod(time.clock_gettime_ns(clock), 1_000_000_000)
        getattr(entry, field).tv_sec, getattr(entry, field).tv_nsec = seconds, nanoseconds
    ctx.images.write("TIMENS", entry, 0)
