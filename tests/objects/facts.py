"""What /proc and poll(2) say of a descriptor of the test process."""

from __future__ import annotations

import os
import select


def flags_of(fd: int) -> int:
    """Flags of the open file description, without close-on-exec."""
    with open(f"/proc/self/fdinfo/{fd}") as info:
        return int(info.read().split("flags:\t")[1].split()[0], 8) & ~os.O_CLOEXEC


def link_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def events_of(fd: int) -> int:
    """What poll(2) has to say at once."""
    poll = select.poll()
    poll.register(fd)
    return next((events for _, events in poll.poll(0)), 0)
