"""Interval timers and POSIX timers: remaining time and interval, both relative."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from engine.kernel.prctl import PR_TIMER_CREATE_RESTORE_IDS
from engine.kernel.procfs import read_timers
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.restore_context import RestoreContext, RestoredTask
    from engine.task.tree import Task

Message = Any

_ITIMERS = ("real", "virt", "prof")
_TIMES = struct.Struct("<4Q")
_SIGEVENT = struct.Struct("<Qiii44x")
_NOTIFY = {"signal": 0, "none": 1, "thread": 2}
_SIGEV_THREAD_ID = 4
_RESTORE_IDS_OFF, _RESTORE_IDS_ON = 0, 1
_SI_TIMER = -2
_MAX_TIMER_ID = 1 << 20


def ask_task(tape: Tape, task: Task, core: Message) -> Callable[[], None]:
    """All timers stand still with the task but for the clock; what is asked now is what is left."""
    interval = [tape.buffer(_TIMES.size) for _ in _ITIMERS]
    for which, buffer in enumerate(interval):
        tape.call("getitimer", which, buffer)
    posix = [
        (
            timer,
            buffer := tape.buffer(_TIMES.size),
            tape.call("timer_gettime", timer.id, buffer),
            tape.call("timer_getoverrun", timer.id),
        )
        for timer in read_timers(task.proc)
    ]

    def answer() -> None:
        timers = core.tc.timers
        for name, buffer in zip(_ITIMERS, interval, strict=True):
            entry = getattr(timers, name)
            entry.isec, entry.iusec, entry.vsec, entry.vusec = _TIMES.unpack(buffer.content)
        for timer, buffer, _, overrun in posix:
            entry = timers.posix.add(
                it_id=timer.id, clock_id=timer.clockid & 0xFFFFFFFF, si_signo=timer.signal,
                it_sigev_notify=_NOTIFY[timer.notify] | (_SIGEV_THREAD_ID if timer.thread else 0),
                sival_ptr=timer.value, overrun=overrun.result,
            )  # fmt: skip
            entry.isec, entry.insec, entry.vsec, entry.vnsec = _TIMES.unpack(buffer.content)
            if timer.thread:
                entry.notify_thread_id = timer.notify_target

    return answer


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """Timer ids are recreated by counting on kernels without a way to ask for one: they must be of a sane size."""
    if any(timer.it_id > _MAX_TIMER_ID for timer in task.core.tc.timers.posix):
        problem = f"a POSIX timer in its core image has an id above {_MAX_TIMER_ID}"
        ctx.problems.add(problem, task.pid, "the image is damaged")


def restore_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """POSIX timers, none of which runs yet, in the ascending order of their ids.

    Since 6.15, prctl(PR_TIMER_CREATE_RESTORE_IDS) lets timer_create(2) take the id it finds in *timerid (kernel commit
    ec2d0c04624b). Older kernels count ids up per process from 0, so the holes are made and deleted.
    """
    timers = task.core.tc.timers
    by_id = sorted(timers.posix, key=lambda timer: int(timer.it_id))
    if by_id:
        exact = _ids_can_be_asked_for()
        if exact:
            tape.call("prctl", PR_TIMER_CREATE_RESTORE_IDS, _RESTORE_IDS_ON, 0, 0, 0)
        following = 0
        for timer in by_id:
            for hole in () if exact else range(following, timer.it_id):
                _create(tape, timer, hole)
                tape.call("timer_delete", hole)
            following = timer.it_id + 1
            _create(tape, timer, timer.it_id)
        if exact:
            tape.call("prctl", PR_TIMER_CREATE_RESTORE_IDS, _RESTORE_IDS_OFF, 0, 0, 0)


def finish_task(tape: Tape, task: RestoredTask, ctx: RestoreContext) -> None:
    """Have them run, when nothing else is left to be done."""
    timers = task.core.tc.timers
    pending = pending_timers(task)
    for timer in timers.posix:
        left = (0, 1) if timer.it_id in pending else (timer.vsec, timer.vnsec)
        times = _TIMES.pack(timer.isec, timer.insec, *left)
        tape.call("timer_settime", timer.it_id, 0, tape.buffer(times), 0)
    for which, name in enumerate(_ITIMERS):
        entry = getattr(timers, name)
        # A timer that has just expired is wound up again when its signal is taken: until then no time is left, though
        # there is an interval (kernel/signal.c, dequeue_signal). Zero would disarm it.
        expired = (entry.isec or entry.iusec) and not (entry.vsec or entry.vusec)
        times = _TIMES.pack(entry.isec, entry.iusec, entry.vsec, 1 if expired else entry.vusec)
        if any(times):
            tape.call("setitimer", which, tape.buffer(times), 0)


def pending_timers(task: RestoredTask) -> set[int]:
    """Ids of the periodic timers whose signal waits to be taken. It counts the expirations meanwhile, which a signal
    that somebody else has queued would not do: the timer is made to expire at once and to queue it itself."""
    core = task.core
    periodic = {timer.it_id for timer in core.tc.timers.posix if timer.isec or timer.insec}
    queues = [core.tc.signals_s, *(thread.core.thread_core.signals_p for thread in task.threads)]
    return {timer_of(entry.siginfo) for queue in queues for entry in queue.signals} & periodic


def timer_of(siginfo: bytes) -> int:
    """The id of the POSIX timer that has queued a signal, -1 if none has. See siginfo_t in sigaction(2)."""
    _, _, code, _, timer_id = struct.unpack_from("<5i", siginfo)
    return int(timer_id) if code == _SI_TIMER else -1


def _create(tape: Tape, timer: Message, timer_id: int) -> None:
    notify = timer.it_sigev_notify
    target = timer.notify_thread_id if notify & _SIGEV_THREAD_ID else 0
    event = _SIGEVENT.pack(timer.sival_ptr, timer.si_signo, notify, target)
    clock = timer.clock_id - (1 << 32) if timer.clock_id >> 31 else timer.clock_id
    tape.call("timer_create", clock, tape.buffer(event), tape.buffer(struct.pack("<i", timer_id)))


def _ids_can_be_asked_for() -> bool:
    """Feature test, in the engine itself: the prctl changes nothing but the next timer_create."""
    from engine.kernel.libc import NR, syscall

    try:
        syscall(NR["prctl"], PR_TIMER_CREATE_RESTORE_IDS, _RESTORE_IDS_ON, 0, 0, 0)
        syscall(NR["prctl"], PR_TIMER_CREATE_RESTORE_IDS, _RESTORE_IDS_OFF, 0, 0, 0)
    except OSError:
        return False
    return True
