"""Security labels: the profile of AppArmor or the context of SELinux that confines a thread, in its credentials.

Only a thread itself may change its label, by a file that it has opened itself (fs/proc/base.c, proc_pid_attr_write), so
it is given the engine's /proc. SELinux changes the context of a whole process and only while that has one thread;
AppArmor that of a thread, and not any more once it has no_new_privs.

Profiles must be loaded before a restore. Those of an AppArmor namespace, and several at once, are not restored.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.images.text import get_text, set_text
from engine.kernel import lsm
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.task.tree import Thread

Message = Any

_NO_LABELS = "none"


class Module:
    """That of the system of a dump."""

    def __init__(self, _: DumpContext) -> None:
        self.kind = lsm.active()


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """creds.lsm_profile and lsm_sockcreate, where there is something to say."""
    kind = ctx.part(Module).kind
    creds = core.thread_core.creds
    label = lsm.label(kind, thread.task.proc, thread.tid)
    if kind == lsm.APPARMOR and ("//&" in label or label.startswith(":")):
        problem = f"thread {thread.tid} is confined by several AppArmor profiles or in a namespace of them, {label}"
        ctx.problems.add(problem, thread.task.pid, "run it under one profile")
    for field, value in (
        ("lsm_profile", label), ("lsm_sockcreate", lsm.socket_label(kind, thread.task.proc, thread.tid))
    ):  # fmt: skip
        if value:
            set_text(creds, field, value)


# Restore


class Wanted:
    """What labels a restore gives: those of the images, or one that the user names (--lsm-profile)."""

    def __init__(self, ctx: RestoreContext) -> None:
        self.kind = ctx.lsm
        self._given: str | None = None
        if ctx.opts.lsm_profile:
            module, _, self._given = ctx.opts.lsm_profile.partition(":")
            self.kind = {name: kind for kind, name in lsm.NAMES.items()}.get(module, lsm.NONE)
            if self.kind == lsm.NONE and (module, self._given) != (_NO_LABELS, ""):
                what = f"--lsm-profile {ctx.opts.lsm_profile}: is no security profile"
                ctx.problems.add(what, remedy="say apparmor:NAME, selinux:CONTEXT or none")
        self.is_said = False

    def label(self, thread: RestoredThread) -> str:
        if self.kind == lsm.NONE:
            return ""
        return get_text(thread.core.thread_core.creds.lsm_profile) if self._given is None else self._given

    def socket_label(self, thread: RestoredThread) -> str:
        return get_text(thread.core.thread_core.creds.lsm_sockcreate) if self.kind == lsm.SELINUX else ""


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """The module of the labels must be there."""
    wanted = ctx.part(Wanted)
    if wanted.is_said or wanted.kind == lsm.active() or not any(map(wanted.label, task.threads)):
        return
    wanted.is_said = True
    what = f"tasks have labels of {lsm.NAMES[wanted.kind]}, which is not active on this system"
    ctx.problems.add(what, remedy="use --lsm-profile none, or name a profile of this system")


def restore_process(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """The context of SELinux, of which all threads have the same."""
    wanted = ctx.part(Wanted)
    leader = task.all_threads[0]
    if wanted.kind != lsm.SELINUX or not wanted.label(leader):
        return
    number = _give_proc(task, ctx)
    _write(tape, number, "current", wanted.label(leader))
    tape.call("close", number)


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """While the task can still be given descriptors: what its threads need."""
    wanted = ctx.part(Wanted)
    if any(wanted.socket_label(thread) or _profile(wanted, thread) for thread in task.threads):
        ctx.part(_Given).numbers[task.pid] = _give_proc(task, ctx)


def restore_label(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """The last but no_new_privs: a profile may forbid all that comes before. Threads come last to first."""
    number = ctx.part(_Given).numbers.get(task.pid)
    if number is None:
        return
    wanted = ctx.part(Wanted)
    if label := wanted.socket_label(thread):
        _write(tape, number, "sockcreate", label)
    if profile := _profile(wanted, thread):
        _write(tape, number, "current", f"changeprofile {profile}")
    if thread is task.threads[0]:
        tape.call("close", number)


class _Given:
    """The descriptor of /proc in each task that has been given one, by pid."""

    def __init__(self, _: RestoreContext) -> None:
        self.numbers: dict[int, int] = {}


def _profile(wanted: Wanted, thread: RestoredThread) -> str:
    return wanted.label(thread) if wanted.kind == lsm.APPARMOR else ""


def _give_proc(task: RestoredTask, ctx: RestoreContext) -> int:
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return ctx.channel.send(task.stub, [proc])[0]
    finally:
        os.close(proc)


def _write(tape: Tape, proc: int, name: str, text: str) -> None:
    content = os.fsencode(text)
    path = tape.buffer(f"thread-self/attr/{name}\0".encode())
    file = tape.call("openat", proc, path, os.O_WRONLY | os.O_CLOEXEC, 0)
    tape.call("write", file, tape.buffer(content), len(content))
    tape.call("close", file)
