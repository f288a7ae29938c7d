"""Security labels: the profile of AppArmor or the context of SELinux that confines a thread, in its credentials.

Only a thread itself may change its label, by a file that it has opened itself (fs/proc/base.c, proc_pid_attr_write), so
it is given the engine's /proc. SELinux changes the context of a whole process and only while that has one thread;
AppArmor that of a thread, and not any more once it has no_new_privs.

The profiles themselves: apparmor.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.images.text import get_text, set_text
from engine.kernel import lsm
from engine.tape.tape import Tape
from engine.task.apparmor import DumpedPolicies, RestoredPolicies

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.tape.stub import Stub
    from engine.task.tree import Thread

Message = Any

_NO_LABELS = "none"
_CHANGE_PROFILE, _EXEC = "changeprofile ", "exec "
_RESET = "\n"


class Module:
    """That of the system of a dump."""

    def __init__(self, _: DumpContext) -> None:
        self.kind = lsm.active()


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """The fields of creds that begin with lsm_, where there is something to say."""
    kind = ctx.part(Module).kind
    creds = core.thread_core.creds
    label = lsm.label(kind, thread.task.proc, thread.tid)
    labels = {name: lsm.label(kind, thread.task.proc, thread.tid, name) for name in lsm.FUTURE[kind]}
    for name, value in ({"profile": label} | labels).items():
        if not value:
            continue
        set_text(creds, f"lsm_{name}", value)
        if kind == lsm.APPARMOR:
            ctx.part(DumpedPolicies).collect(value, thread.task)
    if lsm.way_back(kind, thread.task.proc, thread.tid):
        # aa_change_hat(2): only who knows the number with which the hat was entered can leave it.
        problem = f"thread {thread.tid} is in AppArmor's hat {label}, which only its own secret opens again"
        ctx.problems.add(problem, thread.task.pid, "dump again when it has left the hat")


# Restore


class Wanted:
    """What labels a restore gives: those of the images, or one that the user names (--lsm-profile)."""

    def __init__(self, ctx: RestoreContext) -> None:
        self.kind = ctx.lsm
        self._problems = ctx.problems
        self._given: str | None = None
        if ctx.opts.lsm_profile:
            module, _, self._given = ctx.opts.lsm_profile.partition(":")
            self.kind = {name: kind for kind, name in lsm.NAMES.items()}.get(module, lsm.NONE)
            if self.kind == lsm.NONE and (module, self._given) != (_NO_LABELS, ""):
                what = f"--lsm-profile {ctx.opts.lsm_profile}: is no security profile"
                ctx.problems.add(what, remedy="say apparmor:NAME, selinux:CONTEXT or none")
        self.is_said = False
        self._known: dict[str, bool] = {}

    def label(self, thread: RestoredThread) -> str:
        if self.kind == lsm.NONE:
            return ""
        return get_text(thread.core.thread_core.creds.lsm_profile) if self._given is None else self._given

    def future_labels(self, thread: RestoredThread) -> dict[str, str]:
        """By attribute, where there are any."""
        creds = thread.core.thread_core.creds
        return {name: get_text(label) for name in lsm.FUTURE[self.kind] if (label := getattr(creds, f"lsm_{name}"))}

    def check_context(self, context: str, what: str, pid: int | None = None) -> None:
        """SELinux must know a context. what: the object that is to have it"""
        if self._known.setdefault(context, lsm.context_is_known(context)):
            return
        remedy = "load the policy that it is from, or use --lsm-profile none"
        self._problems.add(f"{what} has the context {context}, which SELinux's policy does not know here", pid, remedy)


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The module of the labels must be there, and know them."""
    wanted = ctx.part(Wanted)
    labels = {label for thread in task.threads for label in wanted.future_labels(thread).values()}
    labels |= {label for label in map(wanted.label, task.threads) if label}
    if wanted.kind == lsm.active():
        for label in sorted(labels):
            if wanted.kind == lsm.SELINUX:
                wanted.check_context(label, "it", task.pid)
            else:
                ctx.part(RestoredPolicies).check(label, task.pid)
    elif labels and not wanted.is_said:
        wanted.is_said = True
        what = f"tasks have labels of {lsm.NAMES[wanted.kind]}, which is not active on this system"
        ctx.problems.add(what, remedy="use --lsm-profile none, or name a profile of this system")


def restore_process(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """The context of SELinux, of which all threads have the same."""
    wanted = ctx.part(Wanted)
    leader = task.all_threads[0]
    if wanted.kind != lsm.SELINUX or not wanted.label(leader):
        return
    number = give_proc(task.stub, ctx)
    set_attribute(tape, number, "current", wanted.label(leader))
    tape.call("close", number)


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """While the task can still be given descriptors: what its threads need."""
    wanted = ctx.part(Wanted)
    if any(wanted.future_labels(thread) or _profile(wanted, thread) for thread in task.threads):
        if wanted.kind == lsm.APPARMOR:
            ctx.part(RestoredPolicies).load()
        ctx.part(_Given).numbers[task.pid] = give_proc(task.stub, ctx)


def restore_label(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """The last but no_new_privs: a profile may forbid all that comes before. Threads come last to first."""
    number = ctx.part(_Given).numbers.get(task.pid)
    if number is None:
        return
    wanted = ctx.part(Wanted)
    for name, label in wanted.future_labels(thread).items():
        set_attribute(tape, number, name, f"{_EXEC}{label}" if wanted.kind == lsm.APPARMOR else label)
    if profile := _profile(wanted, thread):
        set_attribute(tape, number, "current", f"{_CHANGE_PROFILE}{profile}")
    if thread is task.threads[0]:
        tape.call("close", number)


class _Given:
    """The descriptor of /proc in each task that has been given one, by pid."""

    def __init__(self, _: RestoreContext) -> None:
        self.numbers: dict[int, int] = {}


def _profile(wanted: Wanted, thread: RestoredThread) -> str:
    return wanted.label(thread) if wanted.kind == lsm.APPARMOR else ""


def give_proc(stub: Stub, ctx: RestoreContext) -> int:
    """The number in the stub of a descriptor of the engine's /proc, for set_attribute()."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return ctx.channel.send(stub, [proc])[0]
    finally:
        os.close(proc)


def set_attribute(tape: Tape, proc: int, name: str, text: str) -> None:
    """Have a thread write an attribute of its own. text: empty for the usual label"""
    content = os.fsencode(text or _RESET)
    path = tape.buffer(f"thread-self/attr/{name}\0".encode())
    file = tape.call("openat", proc, path, os.O_WRONLY | os.O_CLOEXEC, 0)
    tape.call("write", file, tape.buffer(content), len(content))
    tape.call("close", file)
