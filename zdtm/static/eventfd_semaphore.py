"""Eventfds of which a read takes one: semaphores, beside a counter of the same value.

states: event-fds-and-aio/eventfd
flavours: h
kernel: fdinfo of eventfds
needs: feature eventfd_semaphore
"""

import os

from zdtm.lib.proc import fdinfo
from zdtm.lib.program import equal, ready, run


def reads(fd: int) -> list[int]:
    """What can be read until there is nothing left."""
    found = []
    try:
        while True:
            found.append(os.eventfd_read(fd))
    except BlockingIOError:
        return found


def main() -> None:
    semaphore = os.eventfd(3, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    empty = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    counter = os.eventfd(3, os.EFD_NONBLOCK)
    before = {fd: fdinfo(fd).get("eventfd-semaphore") for fd in (semaphore, empty, counter)}
    ready()
    equal({fd: fdinfo(fd).get("eventfd-semaphore") for fd in before}, before, "which of them are semaphores")
    equal([reads(fd) for fd in before], [[1, 1, 1], [], [3]], "what they give")
    os.eventfd_write(empty, 2)
    equal(reads(empty), [1, 1], "what the empty semaphore gives once it has something")


if __name__ == "__main__":
    run(main)
