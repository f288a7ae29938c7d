"""crucible pre-dump: write down the memory of a tree that goes on, as a parent for later images.

The tree stands only as long as it takes to find its pages and to have changes be noticed. They are copied afterwards,
and those that change are found changed by the next pre-dump or dump: see task/watch.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from engine import log, worker
from engine.dump import root_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options
    from engine.worker import Runner

    Message = Any

_MODES = {"splice": 1, "read": 2}


def run(opts: Options, runner: Runner = worker.run) -> int:
    """The verb. runner: of engine/worker.py. Returns the exit status; raises CrError."""
    return runner(partial(_work, opts, root_of(opts, "pre-dump")))


def _work(opts: Options, root_pid: int, _: Callable[[], None]) -> int:
    from engine import dedup, dump_memory, inventory
    from engine.dump_context import DumpContext
    from engine.dump_tree import load_ahead
    from engine.objects import irmap
    from engine.places import images_of
    from engine.plugins import running
    from engine.stats import DumpStats
    from engine.task import freezer, mm, watch
    from engine.task.seize import FrozenTree
    from engine.task.tree import DEAD
    from engine.transport.sink import sinks_of

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
                living = [task for task in ctx.tasks if task.state != DEAD]
                mms: dict[int, Message] = {task.pid: mm.collect(ctx, task) for task in living}
                ctx.problems.raise_if_any("pre-dump")
                watched = irmap.watched_inodes(living) if opts.force_irmap else []
                copies = dump_memory.watch(ctx, living, mms)
        try:
            images.renew(opts.prev_images_dir)
            for copy in copies:
                copy.write(ctx)
                copy.close()
            if opts.force_irmap:
                irmap.write_cache(watched, ctx)
            sinks.finish()
            inventory.write(ctx, _MODES[opts.pre_dump_mode])
            images.settle()
            images.conclude(True)
        except BaseException:
            images.discard()
            way.undo()
            raise
        if opts.auto_dedup:
            dedup.punch_parents(images)
        stats.write(opts)
    log.info("Pre-dumping finished successfully")
    return 0
