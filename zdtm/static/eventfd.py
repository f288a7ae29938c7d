"""Eventfds: an accumulated counter, the largest counter there is, and one shared by two descriptors.

states: event-fds-and-aio/eventfd
flavours: h
"""

import os
import select

from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run

LARGEST = (1 << 64) - 2
"""The counter at which a write blocks; one more would be reported as an error by poll."""


def would_block(fd: int, value: int = 0) -> bool:
    """Reading, or writing if there is a value, gives EAGAIN."""
    try:
        if value:
            os.eventfd_write(fd, value)
        else:
            os.eventfd_read(fd)
    except BlockingIOError:
        return True
    return False


def main() -> None:
    counter = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    for value in range(10):
        os.eventfd_write(counter, 2 * value)
    full = os.eventfd(0, os.EFD_NONBLOCK)
    os.eventfd_write(full, LARGEST)
    blocking = os.eventfd(0, 0)
    copy = os.dup(counter)
    reader, writer = os.pipe()
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    ready()
    equal([os.get_blocking(fd) for fd in (counter, blocking)], [False, True], "which of them block")
    equal([os.get_inheritable(fd) for fd in (counter, copy)], [False, False], "which are inherited")
    check(same_description(counter, copy), "the copy is another eventfd")
    equal(os.eventfd_read(copy), 90, "the counter, read through the copy")
    check(would_block(counter), "the counter can be read twice")
    check(would_block(full, 1), "the full eventfd takes one more")
    equal(os.eventfd_read(full), LARGEST, "the largest counter")
    os.eventfd_write(blocking, 7)
    equal(os.eventfd_read(blocking), 7, "the eventfd that was 0")
    equal(epoll.poll(0), [], "events of the pipe beside them")
    os.write(writer, b"x")
    equal(epoll.poll(1), [(reader, select.EPOLLIN)], "events of the pipe once it was written to")


if __name__ == "__main__":
    run(main)
