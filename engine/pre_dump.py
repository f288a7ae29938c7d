"""crucible pre-dump: write down the memory of a tree that goes on, as a parent for later images.

The tree stands only as long as it takes to find its pages and to have changes be noticed. They are copied afterwards,
and those that change are found changed by the next pre-dump or dump: see task/watch.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from engine import dedup, dump_memory, inventory, log, worker
from engine.dump import root_of
from engine.dump_ahead import load_ahead
from engine.dump_context import DumpContext
from engine.objects import irmap
from engine.places import images_of
from engine.plugins import running
from engine.stats import DumpStats
from engine.task import freezer, mm, watch
from engine.task.seize import FrozenTree
from engine.task.tree import DEAD
from engine.transport.sink import sinks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_memory import Copy
    from engine.objects.irmap import Inode
    from engine.options import Options
    from engine.worker import Runner

    Message = Any

_MODES = {"splice": 1, "read": 2}


def run(opts: Options, runner: Runner = worker.run) -> int:
    """The verb. runner: of engine/worker.py. Returns the exit status; raises CrError."""
    return runner(partial(_work, opts, root_of(opts, "pre-dump")))


def _work(opts: Options, root_pid: int, _: Callable[[], None]) -> int:
    load_ahead()
    stats = DumpStats()
    with (
        running(opts, "pre-dump") as plugins,
        images_of(opts) as images,
        sinks_of(opts, images) as sinks,
        watch.parent_of(images, opts, sinks) as parent,
        watch.best(parent) as way,
    ):
        with FrozenTree(root_pid, opts.timeout, plugins.pause, freezer.of(opts)) as tree:
            with stats.timing("freezing_time"):
                tree.freeze()
            with stats.timing("frozen_time"):
                ctx = DumpContext(opts, images, sinks, tree.root, stats, parent, way, plugins)
                copies, marked = _look(ctx)
        try:
            _write(ctx, copies, marked)
        except BaseException:
            images.discard()
            way.undo()
            raise
        if opts.auto_dedup:
            dedup.punch_parents(images)
        stats.write(opts)
    log.info("Pre-dumping finished successfully")
    return 0


def _look(ctx: DumpContext) -> tuple[list[Copy], list[Inode]]:
    """While the tree stands: what is to be copied, and the inodes that inotify and fanotify watch (--force-irmap)."""
    living = [task for task in ctx.tasks if task.state != DEAD]
    mms: dict[int, Message] = {task.pid: mm.collect(ctx, task) for task in living}
    ctx.problems.raise_if_any("pre-dump")
    marked = irmap.watched_inodes(living) if ctx.opts.force_irmap else []
    return dump_memory.watch(ctx, living, mms), marked


def _write(ctx: DumpContext, copies: list[Copy], marked: list[Inode]) -> None:
    """While it runs."""
    ctx.images.renew(ctx.opts.prev_images_dir)
    with ctx.progress:
        for copy in copies:
            copy.write(ctx)
            copy.close()
    if ctx.opts.force_irmap:
        irmap.write_cache(marked, ctx)
    ctx.sinks.finish()
    inventory.write(ctx, _MODES[ctx.opts.pre_dump_mode])
    ctx.images.settle()
    ctx.images.conclude(True)
