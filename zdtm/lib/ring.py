"""Tasks in a ring, each with a pipe to the next one, that pass records of 1 MiB around.

Every record is different: the one with number N that leaves task K is the pattern of N * tasks + K. So a byte that is
lost, doubled or taken from another record shows at the next task.
"""

from __future__ import annotations

import os

from zdtm.lib.memory import pattern
from zdtm.lib.pipes import read_all, write_all
from zdtm.lib.program import child, equal, go_on, reap, running

RECORD = 1 << 20
"""Bytes. Far more than a pipe holds, so a writer is mostly inside write() and its reader inside read()."""


def run_ring(links: list[tuple[int, int]]) -> None:
    """Pass records around until told to stop, then take the ring apart.

    links: for each task the read end and the write end of the pipe to the next one. The caller is task 0, the others
    are made here.
    """
    count = len(links)

    def text(number: int, task: int) -> bytes:
        return pattern(number * count + task, RECORD)

    def pass_on(task: int) -> None:
        source, target = links[task - 1][0], links[task][1]
        for fd in {end for link in links for end in link} - {source, target}:
            os.close(fd)
        number = 0
        while record := read_all(source, RECORD):
            # Compared first: a message with a megabyte in it helps nobody.
            equal(record == text(number, task - 1), True, f"record {number} is intact at task {task}")
            write_all(target, text(number, task))
            number += 1

    pids = [child(lambda task=task: pass_on(task)) for task in range(1, count)]  # type: ignore[misc]
    source, target = links[-1][0], links[0][1]
    for fd in {end for link in links for end in link} - {source, target}:
        os.close(fd)
    running()
    number = 0
    while go_on():
        write_all(target, text(number, 0))
        record = read_all(source, RECORD)
        equal(record == text(number, count - 1), True, f"record {number} is intact after a round")
        number += 1
    os.close(target)
    for pid in pids:
        equal(reap(pid), 0, "status of a task of the ring")
    equal(read_all(source, 1), b"", "end of file after the last task of the ring")
