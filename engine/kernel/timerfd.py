"""timerfd_create(2) and its companions, which Python has from 3.13 on."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import NamedTuple

from engine.kernel.libc import NR, syscall

TFD_TIMER_ABSTIME = 1
NSEC_PER_SEC = 1_000_000_000

_TFD_IOC_SET_TICKS = 0x40085400  # _IOW('T', 0, __u64)
_ITIMERSPEC = struct.Struct("<4q")


class TimerSetting(NamedTuple):
    """struct itimerspec, in nanoseconds. value: until or at the next expiration, 0 disarms; interval: 0 for none."""

    value: int
    interval: int


def timerfd_create(clock: int) -> int:
    """A disarmed timer; close-on-exec."""
    return syscall(NR["timerfd_create"], clock, os.O_CLOEXEC)


def timerfd_settime(fd: int, flags: int, setting: TimerSetting) -> None:
    """Arm a timer. flags: TFD_TIMER_..."""
    seconds = (part for time in (setting.interval, setting.value) for part in divmod(time, NSEC_PER_SEC))
    syscall(NR["timerfd_settime"], fd, flags, _ITIMERSPEC.pack(*seconds), None)


def timerfd_gettime(fd: int) -> TimerSetting:
    """What remains. An interval timer that has expired is started again by this, as it would be by a read."""
    import ctypes

    buffer = ctypes.create_string_buffer(_ITIMERSPEC.size)
    syscall(NR["timerfd_gettime"], fd, buffer)
    interval, interval_ns, value, value_ns = _ITIMERSPEC.unpack(buffer.raw)
    return TimerSetting(value * NSEC_PER_SEC + value_ns, interval * NSEC_PER_SEC + interval_ns)


def timerfd_set_ticks(fd: int, ticks: int) -> None:
    """Set the number of expirations that a read gets, not 0 (CONFIG_CHECKPOINT_RESTORE)."""
    fcntl.ioctl(fd, _TFD_IOC_SET_TICKS, struct.pack("<Q", ticks))
