"""crucible dump: freeze a tree and write it down.

The process that the user started only waits. What a dump takes to be done, dump_tree.py and all that it imports, is
loaded by the worker: a process that has forked copies each page that it writes to, which a frozen tree would wait for.
"""

from __future__ import annotations

from functools import partial

from engine import worker
from engine.errors import CrError
from engine.option import EBADRQC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options
    from engine.worker import Runner


def run(opts: Options, runner: Runner = worker.run) -> int:
    """The verb. runner: of engine/worker.py. Returns the exit status; raises CrError."""
    root_pid = root_of(opts, "dump")
    if opts.snapshot and not opts.leave_running:
        raise CrError("--snapshot is for tasks that go on (add --leave-running)", EBADRQC)
    if opts.snapshot and opts.lazy_pages:
        raise CrError("--lazy-pages needs a tree that stands, --snapshot lets it go on (use one)", EBADRQC)
    return runner(partial(_work, opts, root_pid))


def root_of(opts: Options, verb: str) -> int:
    """--tree, without which there is nothing to do. Raises CrError."""
    if opts.tree is None:
        raise CrError(f"{verb} needs the pid of the root task (--tree PID)", cr_errno=EBADRQC)
    return opts.tree


def _work(opts: Options, root_pid: int, commit: Callable[[], None]) -> int:
    from engine.dump_tree import dump_tree

    return dump_tree(opts, root_pid, commit)
