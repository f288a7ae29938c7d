"""A task that forks all the time: ten children are alive in turn, each exits at once with a status of its own.

states: process-tree/forking-tree
flavours: h
oracle: ignore tree: its children come and go all the time
"""

import os

from zdtm.lib.program import child, equal, go_on, reap, run, running

ALIVE = 10


def main() -> None:
    running()
    children: list[tuple[int, int]] = []
    number = 0
    while go_on():
        number += 1
        status = number % 200
        children.append((child(lambda status=status: os._exit(status)), status))  # type: ignore[misc]
        if len(children) == ALIVE:
            pid, expected = children.pop(0)
            equal(os.waitstatus_to_exitcode(reap(pid)), expected, f"exit status of child {pid}")
    for pid, expected in children:
        equal(os.waitstatus_to_exitcode(reap(pid)), expected, f"exit status of child {pid}")


if __name__ == "__main__":
    run(main)
