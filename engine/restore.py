"""crucible restore: read and check everything, make the tree from stubs, let it go.

The stages have the names that users of CRIU know from its logs. Until the last of them the whole tree is traced with
PTRACE_O_EXITKILL: whatever ends the engine ends what it has made.
"""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from engine import log, worker
from engine.action_scripts import ActionScripts
from engine.errors import CrError, text_of
from engine.kernel import ptrace
from engine.lazy.restored import LazyTasks
from engine.objects import table, tty_session
from engine.objects.tty_restored import RestoredTerminals
from engine.places import images_of
from engine.plugins import running
from engine.restore_check import prepare
from engine.restore_context import RestoreContext
from engine.stats import RestoreStats
from engine.tape.channel import StubChannel
from engine.tape.stub import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    STUB_SIZE,
    make_root_stub,
)
from engine.tape.tape import Tape, TapeError
from engine.task import aio, births, core, cpu_state, dead_leader, fs, limits, mm, signals, vdso, zombie
from engine.task.rebuild import AddressSpace, park_vdso

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options
    from engine.plugins import Plugins
    from engine.restore_context import RestoredTask
    from engine.worker import Runner

Message = Any

_CLONE_THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
_REFUSED = "are the images whole, and of a kernel like this one?"
_PR_SET_CHILD_SUBREAPER = 36
_WALL = 0x40000000


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
    """One restore, stage by stage."""

    def __init__(self, opts: Options, plugins: Plugins) -> None:
        self.opts = opts
        self.plugins = plugins
        self.scripts = ActionScripts(opts)
        self.ctx: RestoreContext
        self.root: RestoredTask
        self.pidfile: str | None = None
        self.plan: births.Plan
        self.spaces: dict[int, AddressSpace] = {}
        self.memory_of: dict[int, AddressSpace] = {}
        self.parked: list[tuple[int, int]] = []
        self.channel: StubChannel
        self.made: list[RestoredTask] = []

    def build(self, stats: RestoreStats) -> None:
        """From images to a tree that only has to be let go. Whatever is raised, the engine's descriptors and temporary
        names are given back; the tasks made so far are for destroy()."""
        with images_of(self.opts, bounded=True) as images:
            self.ctx = RestoreContext(self.opts, images, self.plugins)
            try:
                self.root, self.plan = prepare(self.ctx, self.spaces)
                self.make(stats)
                self.scripts.run("pre-resume", init_pid=self.root.pid)
                self._attempt("COMPLETE", self._arm)
                for task in self.ctx.living:
                    self.plugins.tell("RESUME_DEVICES_LATE", f"task {task.pid}", task.pid)
                self.ctx.part(LazyTasks).check_daemon()
                self._attempt("COMPLETE", self._write_pidfile)
                self._attempt("COMPLETE", self.ctx.succeeded)
            finally:
                for space in self.spaces.values():
                    space.close()
                self.ctx.clean_up()

    # The stages

    def make(self, stats: RestoreStats) -> None:
        """From nothing to a tree that only has to be let go."""
        if not self.scripts.run("pre-restore"):
            raise CrError("the pre-restore script failed, nothing has been restored")
        self.plugins.tell("RESTORE_INIT", "the images")
        self.channel = self.ctx.channel = StubChannel(table.channel_number(self.ctx))
        try:
            with stats.timing("forking_time"):
                self._stage("ROOT_TASK", self._make_root)
                self._stage("FORKING", self._fork)
            self.plugins.tell("POST_FORKING", f"the tree of task {self.root.pid}")
            self._stage("RESTORE", self._restore)
            self._stage("RESTORE_SIGCHLD", self._reap)
            self._stage("RESTORE_CREDS", self._finish)
            if not self.scripts.run("post-restore", init_pid=self.root.pid):
                raise CrError("the post-restore script failed, the tree has been removed")
        finally:
            self.channel.close()

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        log.info(f"Restore stage {name}")
        self._attempt(name, work)

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        """The kernel is the last judge of what images ask for: whatever it refuses is an error of theirs, unless the
        daemon that brings their pages has died, and the tree with it."""
        try:
            work()
        except (OSError, CrError) as error:
            self.ctx.part(LazyTasks).check_daemon()
            if isinstance(error, CrError):
                raise
            task = f"task {error.tid}: " if isinstance(error, TapeError) else ""
            what = f"{task}{text_of(error)}, at stage {name} ({_REFUSED})"
            raise CrError(what).with_traceback(error.__traceback__) from error

    def _make_root(self) -> None:
        """The first stub, empty but for its code, its tapes and the parked vDSO."""
        base = mm.free_area([task.mm for task in self.ctx.tasks if task.mm], STUB_SIZE)
        flags = CLONE_PARENT if self.opts.restore_sibling else 0
        self.root.stub = make_root_stub(self.root.pid, base, self.channel.stub_end, self.channel.number, flags)
        self.made.append(self.root)
        tape = Tape()
        limits.loosen(tape, self.ctx)
        self.parked = park_vdso(tape, self.root.pid, self.root.stub.parking)
        self.root.stub.run(tape)
        self._run_together([self._rebuild(self.root, None)])

    def _fork(self) -> None:
        """All processes, each with its memory before its children are made, each session with its terminal."""
        self.ctx.part(RestoredTerminals).make()
        for step in self.plan.steps:
            tape = Tape()
            if isinstance(step, births.Clone):
                self._clone(step.creator, step.task, step.flags)
            elif isinstance(step, births.Setsid):
                tape.call("setsid")
            elif isinstance(step, births.Subreaper):
                tape.call("prctl", _PR_SET_CHILD_SUBREAPER, int(step.adopts))
            else:
                self._bury(step.task, step.parent)
            if len(tape):
                step.task.stub.run(tape)
            if isinstance(step, births.Setsid):
                tty_session.take(step.task, self.ctx)
        for task, group in self.plan.joins(self.ctx.tasks):
            tape = Tape()
            tape.call("setpgid", 0, group)
            task.stub.run(tape)
        tty_session.settle(self.ctx)

    def _clone(self, creator: RestoredTask, task: RestoredTask, flags: int) -> None:
        shares = task.ids is not None and creator.ids is not None and task.ids.files_id == creator.ids.files_id
        task.stub = creator.stub.clone(task.pid, flags | (CLONE_FILES if shares else 0))
        self.made.append(task)
        self.memory_of[task.pid] = self.memory_of[creator.pid]
        if task.pid in self.spaces:
            self._run_together([self._rebuild(task, self.memory_of[creator.pid])])

    def _rebuild(self, task: RestoredTask, origin: AddressSpace | None) -> Any:
        space = self.memory_of[task.pid] = self.spaces[task.pid]
        return space.rebuild(self.ctx, origin, task.stub.base, self.channel)

    def _bury(self, task: RestoredTask, parent: RestoredTask) -> None:
        """End a helper and let its parent wait for it."""
        zombie.die(task, 0)
        self.made.remove(task)
        tape = Tape()
        tape.call("wait4", task.pid, 0, _WALL, 0)
        parent.stub.run(tape)

    @staticmethod
    def _run_together(works: list[Any]) -> None:
        waiting = list(works)
        while waiting:
            waiting = [work for work in waiting if next(work, waiting) is not waiting]

    def _restore(self) -> None:
        """Files, threads, and what needs the privileges that the tree does not have yet given up."""
        table.open_all(self.ctx)
        lazy = self.ctx.part(LazyTasks)
        handed_out: set[int] = set()
        finished: set[int] = set()
        living = self.ctx.living
        for task in living:
            fs.restore(task, self.ctx, self.channel)
        for task in living:
            if task.ids.files_id not in handed_out:
                handed_out.add(task.ids.files_id)
                table.hand_out(task, self.ctx, self.channel)
        for task in living:
            table.finish_in_task(task, self.ctx, finished)
            tape = Tape()
            self.spaces[task.pid].finish(tape)
            vdso.restore(tape, task, self.parked, self.ctx)
            task.stub.run(tape)
            aio.restore(task, self.ctx)
            tape = Tape()
            core.restore_process(tape, task, self.ctx)
            task.stub.run(tape)
            lazy.hand_over(task)
            leader, *others = task.all_threads
            leader.stub = task.stub
            for thread in others:
                thread.stub = task.stub.clone(thread.tid, _CLONE_THREAD_FLAGS)
            if task.dead_leader:
                dead_leader.exit_leader(task, self.ctx)
        lazy.hand_over_dead()

    def _reap(self) -> None:
        """Helpers go, zombies become zombies. Their parents' SIGCHLD is dequeued: the image has its own to queue."""
        for helper, parent in self.plan.helpers:
            self._bury(helper, parent)
        for task in self.ctx.tasks:
            if task.is_dead:
                zombie.die(task, task.core.tc.exit_code)
        for task in self.ctx.tasks:
            if task.ids is not None:
                tape = Tape()
                chld = tape.buffer((1 << signal.SIGCHLD - 1).to_bytes(8, "little"))
                tape.call("rt_sigtimedwait", chld, 0, tape.words(0, 0), 8, may_fail=True)
                task.stub.run(tape)

    def _finish(self) -> None:
        """The cores: processes first, then every thread, then what may only come when all the rest is there."""
        tasks = self.ctx.living
        for task in tasks:
            tape = Tape()
            core.restore_task(tape, task, self.ctx)
            task.stub.run(tape)
        closed: set[int] = set()
        for task in tasks:
            for thread in reversed(task.threads):
                tape = Tape()
                if thread is task.threads[0] and task.ids.files_id not in closed:
                    closed.add(task.ids.files_id)
                    tape.call("close", self.channel.number)
                core.restore_thread(tape, thread, task, self.ctx)
                thread.stub.run(tape)
        for task in tasks:
            tape = Tape()
            core.finish_task(tape, task, self.ctx)
            task.stub.run(tape)

    # The end

    def _arm(self) -> None:
        """Give every thread its registers and mask. From here on no tape can be run."""
        for task in self.ctx.living:
            for thread in reversed(task.threads):
                thread.stub.unmap_and(cpu_state.final_registers(thread), unmap=thread is task.threads[0])
                cpu_state.restore_extended(thread)
                thread.stub.tracee.set_sigmask(core.blocked_signals(thread))
            stop = signal.SIGSTOP if self.opts.leave_stopped else signals.stop_signal(task)
            if stop:
                os.kill(task.pid, stop)

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
                pid, status = os.waitpid(-1, _WALL)
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
