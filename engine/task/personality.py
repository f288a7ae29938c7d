"""What a process is to the system: state, name, personality, OOM score, login uid, subreaper, membarrier."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.images.text import get_text, set_text
from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER, PR_SET_NAME
from engine.kernel.procfs import LOGINUID_UNSET, read_comm, read_loginuid, read_oom_score_adj, read_personality
from engine.tape.tape import Tape
from engine.task.tree import STOPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.task.tree import Task

Message = Any

_COMM_LENGTH = 15
_OOM_SCORE_ADJ_MIN, _OOM_SCORE_ADJ_MAX = -1000, 1000
_MEMBARRIER_QUERY, _MEMBARRIER_GET_REGISTRATIONS = 0, 1 << 9
_MEMBARRIER_PRIVATE_COMMANDS = (1 << 3, 1 << 5, 1 << 7)


def collect_task(ctx: DumpContext, task: Task, core: Message) -> None:
    """The outside view."""
    tc = core.tc
    tc.task_state, tc.exit_code = task.state, 0
    tc.personality = read_personality(task.pid, task.proc)
    tc.flags = task.stat.flags
    set_text(tc, "comm", read_comm(task.pid))
    tc.oom_score_adj = read_oom_score_adj(task.pid)
    loginuid = read_loginuid(task.proc)
    if loginuid is not None and loginuid != LOGINUID_UNSET:
        tc.loginuid = loginuid
    if task.state == STOPPED:
        tc.stop_signo = task.stop_signo


def ask_task(tape: Tape, task: Task, core: Message) -> Callable[[], None]:
    """What has no file in /proc."""
    subreaper = tape.buffer(4)
    tape.call("prctl", PR_GET_CHILD_SUBREAPER, subreaper)
    registrations = _ask_membarrier(tape)

    def answer() -> None:
        core.tc.child_subreaper = bool(subreaper.unpack("<i")[0])
        if mask := registrations():
            core.tc.membarrier_registration_mask = mask

    return answer


def _ask_membarrier(tape: Tape) -> Callable[[], int]:
    """The kinds of barriers that the task has registered for, as a set of the commands that register.

    Before Linux 6.3 there is no telling, but a private barrier fails for those who have not registered, and harms
    nobody else. Whether the task wants the global ones of others is not found out by that.
    """
    if membarrier_commands() & _MEMBARRIER_GET_REGISTRATIONS:
        known = tape.call("membarrier", _MEMBARRIER_GET_REGISTRATIONS, 0, 0)
        return lambda: known.result
    tried = [(command, tape.call("membarrier", command, 0, 0, may_fail=True)) for command in _private_barriers()]
    return lambda: sum(command << 1 for command, call in tried if call.result == 0)


def _private_barriers() -> list[int]:
    return [command for command in _MEMBARRIER_PRIVATE_COMMANDS if membarrier_commands() & command]


@cache
def membarrier_commands() -> int:
    """What membarrier(2) can do here, a set of commands; 0 if nothing."""
    try:
        return syscall(NR["membarrier"], _MEMBARRIER_QUERY, 0, 0)
    except OSError:
        return 0


def of_zombie(task: Task, core: Message) -> None:
    """The few things that are left of a dead task, and the numbers that the schema requires."""
    tc = core.tc
    tc.task_state, tc.exit_code = task.state, task.exit_code
    tc.personality, tc.blk_sigset = 0, 0
    tc.flags = task.stat.flags
    set_text(tc, "comm", task.stat.comm)


def comm_of(message: Message) -> bytes:
    """The name in a task's or thread's part of a core, as prctl(PR_SET_NAME) takes it: any bytes, 15 at most."""
    return os.fsencode(get_text(message.comm))[:_COMM_LENGTH] + b"\0"


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """An OOM score that the engine itself may not have it can't give to a task either."""
    wish = task.core.tc.oom_score_adj
    if not _OOM_SCORE_ADJ_MIN <= wish <= _OOM_SCORE_ADJ_MAX:
        ctx.problems.add(f"its OOM score adjustment {wish} is out of range", task.pid, "the image is damaged")
    elif wish < ctx.part(_LowestOomScore).value(wish):
        problem = f"its OOM score adjustment {wish} is lower than the engine may make it"
        ctx.problems.add(problem, task.pid, "give the engine CAP_SYS_RESOURCE")


class _LowestOomScore:
    """How far down the engine may go. The kernel tells nobody the lowest value that a task without CAP_SYS_RESOURCE
    may choose (signal_struct.oom_score_adj_min), so it is tried out, by the engine on itself."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._pid = ctx.pid
        self._possible = read_oom_score_adj(ctx.pid)

    def value(self, wish: int) -> int:
        """The lowest that is known to be possible, `wish` if that is."""
        if wish < self._possible:
            own = read_oom_score_adj(self._pid)
            try:
                _write(self._pid, "oom_score_adj", wish)
            except PermissionError:
                return self._possible
            _write(self._pid, "oom_score_adj", own)
            self._possible = wish
        return self._possible


def restore_process(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """Personality and login uid are each thread's own, but images have one."""
    tc = task.core.tc
    tape.call("personality", tc.personality)
    if tc.HasField("loginuid") and tc.loginuid not in (LOGINUID_UNSET, read_loginuid(task.pid)):
        _write_loginuid(tape, task, ctx, tc.loginuid)


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """oom_score_adj is a file that the engine writes. membarrier registers by the commands whose bits the mask has."""
    tc = task.core.tc
    tape.call("prctl", PR_SET_NAME, tape.buffer(comm_of(tc)))
    tape.call("prctl", PR_SET_CHILD_SUBREAPER, int(tc.child_subreaper))
    for bit in range(32):
        if tc.membarrier_registration_mask >> bit & 1:
            tape.call("membarrier", 1 << bit, 0, 0)
    if tc.HasField("oom_score_adj") and tc.oom_score_adj != read_oom_score_adj(task.pid):
        _write(task.pid, "oom_score_adj", tc.oom_score_adj)


def _write_loginuid(tape: Tape, task: RestoredTask, ctx: RestoreContext, value: int) -> None:
    """Only a task itself may write its login uid (fs/proc/base.c, proc_loginuid_write). It gets the file from us, since
    it may see no /proc."""
    fd = os.open(f"/proc/{task.pid}/loginuid", os.O_WRONLY | os.O_CLOEXEC)
    (number,) = ctx.channel.send(task.stub, [fd])
    os.close(fd)
    text = str(value).encode()
    tape.call("write", number, tape.buffer(text), len(text))
    tape.call("close", number)


def _write(pid: int, name: str, value: int) -> None:
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(str(value))
