"""Timers that are read: timerfd_create(2).

An interval timer that has expired is not started again before somebody reads it: the kernel makes up for the missed
expirations then (fs/timerfd.c, timerfd_read_iter). Until that happens it shows no remaining time, which an image could
not tell from a timer that is disarmed. timerfd_gettime(2) makes the kernel catch up just as a read does, without taking
an expiration away; so that is called first, and images have the whole truth.

A timer starts when the tree is about to run. An absolute time is restored as one, for the sake of its flag, but as the
same remaining time: the clock of the other machine, or of a later day, has nothing to do with the old value.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.proc_fdinfo import fdinfo_timerfd, read_fdinfo
from engine.kernel.timerfd import (
    NSEC_PER_SEC,
    TFD_TIMER_ABSTIME,
    TimerSetting,
    timerfd_create,
    timerfd_gettime,
    timerfd_set_ticks,
    timerfd_settime,
)
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_AT_ONCE = 1
_HIGHEST_SECONDS = 1 << 33
"""Of what the kernel's 63 bits of nanoseconds hold."""


class Timerfd(FileKind):
    """TIMERFD."""

    type = 17
    field = "tfd"
    links = ("anon_inode:[timerfd]",)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        timerfd_gettime(file.copy)
        state = fdinfo_timerfd(read_fdinfo(os.getpid(), file.copy))
        return message("timerfd_entry")(
            id=file.id,
            flags=file.flags,
            clockid=state.clockid,
            ticks=state.ticks,
            settime_flags=state.settime_flags,
            vsec=state.value[0],
            vnsec=state.value[1],
            isec=state.interval[0],
            insec=state.interval[1],
        )

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        seconds, nanoseconds = max(entry.vsec, entry.isec), max(entry.vnsec, entry.insec)
        if seconds >= _HIGHEST_SECONDS or nanoseconds >= NSEC_PER_SEC:
            ctx.problems.add(f"timerfd (file {entry.id}): its times are impossible", remedy="the image is damaged")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        try:
            fd = timerfd_create(entry.clockid)
        except OSError as error:
            raise CrError(f"timerfd (file {entry.id}), clock {entry.clockid}: {error.strerror}") from error
        set_flags(fd, entry.flags)
        ctx.on_success(partial(_start, fd, entry))
        return fd


def _start(fd: int, entry: Message) -> None:
    """Arm the timer. Images of engines that did not make it catch up may show an interval timer with an expiration
    and no remaining time: its next one is due at once."""
    value = entry.vsec * NSEC_PER_SEC + entry.vnsec
    interval = entry.isec * NSEC_PER_SEC + entry.insec
    if interval and entry.ticks and not value:
        value = _AT_ONCE
    if value and entry.settime_flags & TFD_TIMER_ABSTIME:
        value += time.clock_gettime_ns(entry.clockid)
    timerfd_settime(fd, entry.settime_flags, TimerSetting(value, interval))
    if entry.ticks:
        timerfd_set_ticks(fd, entry.ticks)
