"""Interval timers of an hour that fire once: by real time, by the time in user space and by all the time used.

states: signals-and-timers/interval-timers-one-shot
flavours: h
"""

import signal

from zdtm.lib.program import check, equal, ready, run

HOUR = 3600
SLACK = 300
"""Seconds that a checkpoint and the way to the restore may take."""
TIMERS = {"REAL": signal.ITIMER_REAL, "VIRTUAL": signal.ITIMER_VIRTUAL, "PROF": signal.ITIMER_PROF}


def main() -> None:
    for number, which in enumerate(TIMERS.values()):
        signal.setitimer(which, HOUR - number)
    ready()
    for number, (name, which) in enumerate(TIMERS.items()):
        left, interval = signal.getitimer(which)
        # The timers that run by used time are rounded up to a tick of the clock.
        check(HOUR - SLACK - number <= left <= HOUR - number + 1, f"{name} has {left} s left")
        equal(interval, 0, f"interval of {name}")


if __name__ == "__main__":
    run(main)
