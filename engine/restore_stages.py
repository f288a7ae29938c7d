"""The stages of a restore: how the tree is made, from its first stub to the registers of its last thread.

They have the names that users of CRIU know from its logs.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError, text_of
from engine.kernel.prctl import PR_SET_CHILD_SUBREAPER
from engine.kernel.ptrace import WALL
from engine.lazy.restored import LazyTasks
from engine.objects import table, tty_session
from engine.objects.tty_restored import RestoredTerminals
from engine.tape.channel import StubChannel
from engine.tape.stub import CLONE_FILES, CLONE_PARENT, STUB_SIZE, THREAD_FLAGS, make_root_stub
from engine.tape.tape import Tape, TapeError
from engine.task import aio, births, core, cpu_state, dead_leader, fs, limits, mm, signals, vdso, zombie
from engine.task.rebuild import AddressSpace, park_vdso

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.action_scripts import ActionScripts
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.stats import RestoreStats

_REFUSED = "are the images whole, and of a kernel like this one?"


class Stages:
    """The making of one tree.

    spaces  the memory of each process, by pid
    made    gets the tasks that there are, for whoever has to end them
    """

    def __init__(
        self,
        ctx: RestoreContext,
        root: RestoredTask,
        plan: births.Plan,
        spaces: dict[int, AddressSpace],
        made: list[RestoredTask],
    ) -> None:
        self.ctx = ctx
        self.root = root
        self.plan = plan
        self.spaces = spaces
        self.made = made
        self.memory_of: dict[int, AddressSpace] = {}
        self.parked: list[tuple[int, int]] = []
        self.channel: StubChannel

    def make(self, scripts: ActionScripts, stats: RestoreStats) -> None:
        """From nothing to a tree that only has to be let go."""
        plugins = self.ctx.plugins
        if not scripts.run("pre-restore"):
            raise CrError("the pre-restore script failed, nothing has been restored")
        plugins.tell("RESTORE_INIT", "the images")
        self.channel = self.ctx.channel = StubChannel(table.channel_number(self.ctx))
        try:
            with stats.timing("forking_time"), self.ctx.progress:
                self._stage("ROOT_TASK", self._make_root)
                self._stage("FORKING", self._fork)
            plugins.tell("POST_FORKING", f"the tree of task {self.root.pid}")
            self._stage("RESTORE", self._restore)
            self._stage("RESTORE_SIGCHLD", self._reap)
            self._stage("RESTORE_CREDS", self._finish)
            if not scripts.run("post-restore", init_pid=self.root.pid):
                raise CrError("the post-restore script failed, the tree has been removed")
        finally:
            self.channel.close()

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        log.info(f"Restore stage {name}")
        self.attempt(name, work)

    def attempt(self, name: str, work: Callable[[], None]) -> None:
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
        flags = CLONE_PARENT if self.ctx.opts.restore_sibling else 0
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
                tape.call("prctl", PR_SET_CHILD_SUBREAPER, int(step.adopts))
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
        tape.call("wait4", task.pid, 0, WALL, 0)
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
                thread.stub = task.stub.clone(thread.tid, THREAD_FLAGS)
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

    def arm(self) -> None:
        """Give every thread its registers and mask. From here on no tape can be run."""
        for task in self.ctx.living:
            for thread in reversed(task.threads):
                thread.stub.unmap_and(cpu_state.final_registers(thread), unmap=thread is task.threads[0])
                cpu_state.restore_extended(thread)
                thread.stub.tracee.set_sigmask(core.blocked_signals(thread))
            stop = signal.SIGSTOP if self.ctx.opts.leave_stopped else signals.stop_signal(task)
            if stop:
                os.kill(task.pid, stop)
