"""Scheduling policies and nice values, one child each, and a thread that differs from its process.

states: misc/scheduler
flavours: h
kernel: scheduling attributes
needs: root, cap CAP_SYS_NICE
"""

import os
from functools import partial
from os import PRIO_PROCESS, SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run, spawn_thread

KINDS = [
    (SCHED_OTHER, 0, -20),
    (SCHED_OTHER, 0, 19),
    (SCHED_OTHER, 0, 1),
    (SCHED_BATCH, 0, 5),
    (SCHED_IDLE, 0, 0),
    (SCHED_RR, 3, 0),
    (SCHED_RR | SCHED_RESET_ON_FORK, 3, 0),
    (SCHED_FIFO, 1, -7),
    (SCHED_OTHER | SCHED_RESET_ON_FORK, 0, -3),
]
"""Policy, real-time priority, nice value"""


def schedule(policy: int, priority: int, nice: int) -> None:
    """For the calling thread."""
    os.setpriority(PRIO_PROCESS, 0, nice)
    os.sched_setscheduler(0, policy, os.sched_param(priority))


def scheduled(tid: int) -> tuple[int, int, int]:
    return os.sched_getscheduler(tid), os.sched_getparam(tid).sched_priority, os.getpriority(PRIO_PROCESS, tid)


def main() -> None:
    gate = Gate()

    def body(kind: tuple[int, int, int]) -> None:
        schedule(*kind)
        gate.wait()
        equal(scheduled(0), kind, "policy, priority and nice value of a child")

    pids = [child(partial(body, kind)) for kind in KINDS]
    gate.expect(len(KINDS))
    entry, bar = os.pipe()
    arrivals, arrived = os.pipe()

    def other_thread() -> None:
        schedule(SCHED_BATCH, 0, 7)
        os.write(arrived, b"!")
        os.read(entry, 1)
        equal(scheduled(0), (SCHED_BATCH, 0, 7), "policy, priority and nice value of the thread")

    thread = spawn_thread(other_thread)
    os.read(arrivals, 1)
    ready()
    for pid, kind in zip(pids, KINDS, strict=True):
        equal(scheduled(pid), kind, "policy, priority and nice value of a child as its parent sees them")
    equal(scheduled(0), (SCHED_OTHER, 0, 0), "policy, priority and nice value of the parent")
    os.write(bar, b"!")
    thread.join()
    gate.open()
    for pid in pids:
        equal(reap(pid), 0, "status of a child")


if __name__ == "__main__":
    run(main)
