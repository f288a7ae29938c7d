"""Credentials, which belong to each thread: ids, groups, capabilities, securebits, no_new_privs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel.capabilities import capability_names
from engine.kernel.prctl import (
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_GET_SECUREBITS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    SECBIT_KEEP_CAPS,
    SECBIT_NO_SETUID_FIXUP,
)
from engine.kernel.proc_status import read_status
from engine.task import dumpable, lsm
from engine.task.thread_area import restore_death_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
    from engine.tape.tape import Tape
    from engine.task.tree import Thread

Message = Any

_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64


def collect_thread(ctx: DumpContext, thread: Thread, core: Message) -> None:
    """All from /proc; the capability sets in two 32-bit words each."""
    status = thread.status
    creds = core.thread_core.creds
    creds.uid, creds.euid, creds.suid, creds.fsuid = status.uids
    creds.gid, creds.egid, creds.sgid, creds.fsgid = status.gids
    creds.groups.extend(status.groups)
    for name in ("inh", "prm", "eff", "bnd", "amb"):
        value = getattr(status, f"cap_{name}")
        getattr(creds, f"cap_{name}").extend((value & 0xFFFFFFFF, value >> 32))
    creds.secbits = 0
    if status.no_new_privs:
        creds.no_new_privs = 1


def ask_thread(tape: Tape, thread: Thread, core: Message) -> Callable[[], None]:
    """securebits have no file."""
    bits = tape.call("prctl", PR_GET_SECUREBITS)

    def answer() -> None:
        core.thread_core.creds.secbits = bits.result

    return answer


class _Own:
    """What the engine itself has, and stubs have from it."""

    def __init__(self, ctx: RestoreContext) -> None:
        status = read_status(ctx.pid)
        self.bounding, self.inheritable, self.no_new_privs = status.cap_bnd, status.cap_inh, status.no_new_privs


def _mask(words: Any) -> int:
    return sum(word << 32 * index for index, word in enumerate(words))


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """A capability that the engine lacks can't be given to a task, and no_new_privs is for ever."""
    own = ctx.part(_Own)
    for thread in task.all_threads:
        if not thread.core.thread_core.HasField("creds"):
            ctx.problems.add(f"core-{thread.tid}.img has no credentials", task.pid, "the image is damaged")
            continue
        creds = thread.core.thread_core.creds
        lacking = (_mask(creds.cap_prm) | _mask(creds.cap_bnd)) & ~own.bounding
        lacking |= _mask(creds.cap_inh) & ~(own.bounding | own.inheritable)
        if own.no_new_privs and not creds.no_new_privs:
            problem = f"thread {thread.tid} may gain privileges, but the engine may not (no_new_privs)"
            ctx.problems.add(problem, task.pid, "run the engine without no_new_privs")
        if lacking:
            ctx.problems.add(
                f"thread {thread.tid} has {capability_names(lacking)}, which the engine may not give", task.pid,
                "run the engine with all capabilities",
            )  # fmt: skip


def restore_thread(tape: Tape, thread: RestoredThread, task: RestoredTask, ctx: RestoreContext) -> None:
    """In an order in which each step is still allowed: groups and ids under SECBIT_NO_SETUID_FIXUP, so that they leave
    the capabilities alone; then inheritable capabilities, which must be in the bounding set only when they are raised;
    then the bounding set, then the capabilities, which end all privileges, then the rest.

    capabilities(7) tells what each needs: CAP_SETPCAP for securebits and bounding set, CAP_SETUID and CAP_SETGID.
    Securebits that lock others must come last, but still need CAP_SETPCAP, so the final ones go before capset.
    """
    creds = thread.core.thread_core.creds
    tape.call("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS)
    groups = struct.pack(f"<{len(creds.groups)}I", *creds.groups)
    tape.call("setgroups", len(creds.groups), tape.buffer(groups))
    tape.call("setresgid", creds.gid, creds.egid, creds.sgid)
    tape.call("setfsgid", creds.fsgid)
    tape.call("setresuid", creds.uid, creds.euid, creds.suid)
    if dumpable.is_given_by_change(task):
        tape.call("setfsuid", creds.fsuid ^ 1)
    tape.call("setfsuid", creds.fsuid)
    header = tape.buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    inheritable, permitted = _mask(creds.cap_inh), _mask(creds.cap_prm)
    own_bounding = ctx.part(_Own).bounding
    tape.call("capset", header, tape.buffer(_cap_data(own_bounding, own_bounding, inheritable)))
    bounding = _mask(creds.cap_bnd)
    for capability in range(_CAPABILITIES):
        if own_bounding >> capability & 1 and not bounding >> capability & 1:
            tape.call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    tape.call("prctl", PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    ambient = _mask(creds.cap_amb)
    for capability in range(_CAPABILITIES):
        if ambient >> capability & 1:
            tape.call("prctl", PR_CAP_AMBIENT, _AMBIENT_RAISE, capability, 0, 0)
    tape.call("prctl", PR_SET_SECUREBITS, creds.secbits)
    tape.call("capset", header, tape.buffer(_cap_data(_mask(creds.cap_eff), permitted, inheritable)))
    lsm.restore_label(tape, thread, task, ctx)
    if creds.no_new_privs:
        tape.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    restore_death_signal(tape, thread)


def _cap_data(effective: int, permitted: int, inheritable: int) -> bytes:
    """struct __user_cap_data_struct[2]."""
    words = [(value & 0xFFFFFFFF, value >> 32) for value in (effective, permitted, inheritable)]
    return struct.pack("<6I", *(word[half] for half in (0, 1) for word in words))
