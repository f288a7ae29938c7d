"""crucible restore: read and check everything, make the tree from stubs, let it go.

Until it is let go the whole tree is traced with PTRACE_O_EXITKILL: whatever ends the engine ends what it has made.
"""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from engine import log, worker
from engine.action_scripts import ActionScripts
from engine.errors import CrError
from engine.kernel import ptrace
from engine.lazy.restored import LazyTasks
from engine.places import images_of
from engine.plugins import running
from engine.restore_check import prepare
from engine.restore_context import RestoreContext
from engine.restore_stages import Stages
from engine.stats import RestoreStats
from engine.task import signals
from engine.task.rebuild import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options
    from engine.plugins import Plugins
    from engine.restore_context import RestoredTask
    from engine.worker import Runner


def run(opts: Options, runner: Runner | None = None) -> int:
    """The verb. runner: of engine/worker.py, if the caller chooses. Returns the exit status; raises CrError."""
    return (runner or choose_runner(opts))(partial(_restore, opts))


def choose_runner(opts: Options) -> Runner:
    """The process that the user started has to do it itself where it matters which process that is."""
    return worker.run_here if opts.restore_sibling or opts.exec_cmd else worker.run


def _restore(opts: Options, commit: Callable[[], None]) -> int:
    stats = RestoreStats()
    with running(opts, "restore") as plugins:
        restore = Restore(opts, plugins)
        try:
            with stats.timing("restore_time"):
                restore.build(stats)
            stats.write(opts)
        except BaseException:
            restore.destroy()
            raise
        restore.release(commit)
    if opts.auto_dedup:
        restore.give_up_images()
    log.info("Restore finished successfully. Tasks resumed.")
    return restore.conclude()


class Restore:
    """One restore: how it begins, and how it ends."""

    def __init__(self, opts: Options, plugins: Plugins) -> None:
        self.opts = opts
        self.plugins = plugins
        self.scripts = ActionScripts(opts)
        self.ctx: RestoreContext
        self.root: RestoredTask
        self.pidfile: str | None = None
        self.spaces: dict[int, AddressSpace] = {}
        self.made: list[RestoredTask] = []

    def build(self, stats: RestoreStats) -> None:
        """From images to a tree that only has to be let go. Whatever is raised, the engine's descriptors and temporary
        names are given back; the tasks made so far are for destroy()."""
        with images_of(self.opts, bounded=True) as images:
            self.ctx = RestoreContext(self.opts, images, self.plugins)
            try:
                self.root, plan = prepare(self.ctx, self.spaces)
                stages = Stages(self.ctx, self.root, plan, self.spaces, self.made)
                stages.make(self.scripts, stats)
                self.scripts.run("pre-resume", init_pid=self.root.pid)
                stages.attempt("COMPLETE", stages.arm)
                for task in self.ctx.living:
                    self.plugins.tell("RESUME_DEVICES_LATE", f"task {task.pid}", task.pid)
                self.ctx.part(LazyTasks).check_daemon()
                stages.attempt("COMPLETE", self._write_pidfile)
                stages.attempt("COMPLETE", self.ctx.succeeded)
            finally:
                for space in self.spaces.values():
                    space.close()
                self.ctx.clean_up()

    def release(self, commit: Callable[[], None]) -> None:
        """Let every thread go. First none dies with the engine any more: the kernel itself detaches those which the
        loop does not come to."""
        commit()
        self.ctx.committed()
        tracees = [thread.stub.tracee for task in self.ctx.living for thread in task.threads]
        for tracee in tracees:
            with contextlib.suppress(OSError):
                tracee.set_options(0)
        for tracee in tracees:
            with contextlib.suppress(OSError):
                tracee.detach()
        for task in self.ctx.living:
            with contextlib.suppress(OSError):
                signals.stop_again(task)
        self.ctx.part(LazyTasks).finish()
        self.scripts.run("post-resume", init_pid=self.root.pid)

    def give_up_images(self) -> None:
        """Nobody is going to need their pages again (--auto-dedup)."""
        from engine.dedup import punch_restored

        try:
            with images_of(self.opts) as images:
                punch_restored(images)
        except CrError as error:
            log.warn(error.message)

    def destroy(self) -> None:
        """The restore has failed: nothing of the tree may stay. A leader's death is only reported after those of its
        threads, so all are killed before any is waited for, and in whatever order they come."""
        if self.pidfile:
            os.unlink(self.pidfile)
        left = {task.pid for task in self.made}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while left:
                pid, status = os.waitpid(-1, ptrace.WALL)
                if ptrace.Status(status).dead:
                    left.discard(pid)

    def _write_pidfile(self) -> None:
        """--pidfile: must not exist yet."""
        if not self.opts.pidfile:
            return
        fd = os.open(self.opts.pidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.pidfile = self.opts.pidfile
        os.write(fd, str(self.root.pid).encode())
        os.close(fd)

    def conclude(self) -> int:
        """--exec-cmd, --restore-detached or waiting for the root, whose end does not matter."""
        if self.opts.client:
            self.opts.client.restored(self.root.pid)
        if self.opts.exec_cmd:
            os.execvp(self.opts.exec_cmd[0], self.opts.exec_cmd)
        if not self.opts.restore_detached:
            os.waitpid(self.root.pid, 0)
        return 0
