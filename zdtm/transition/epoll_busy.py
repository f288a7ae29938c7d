"""One process watches 13 pipes by epoll and empties them, 13 others write into them all the time.

states: event-fds-and-aio/epoll-busy
flavours: h
"""

import os
import select

from zdtm.lib.program import child, equal, go_on, reap, run, running

WRITERS = 13
SIZE = 1000
PERIOD = 64007
"""After so many bytes the text starts again. A prime, so that a lost page or message cannot go unnoticed."""
TEXT = bytes((n * 7 + n // 251) % 256 for n in range(PERIOD)) * 2


def text(writer: int, offset: int, size: int) -> bytes:
    """What a writer puts at that offset of its pipe."""
    start = (offset + writer * SIZE) % PERIOD
    return TEXT[start : start + size]


def write(writer: int, fd: int, others: list[int]) -> None:
    """Until nobody reads any more."""
    for other in others:
        os.close(other)
    offset = 0
    try:
        while True:
            offset += os.write(fd, text(writer, offset, SIZE))
    except BrokenPipeError:
        pass


def start_writer(number: int, readers: list[int]) -> tuple[int, int]:
    """Gives the pid of the writer and the read end of its pipe. readers: those of the others."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pid = child(lambda: write(number, writer, [*readers, reader]))
    os.close(writer)
    return pid, reader


def read(fd: int) -> bytes:
    try:
        return os.read(fd, SIZE)
    except BlockingIOError:
        return b""


def main() -> None:
    epoll = select.epoll()
    readers: list[int] = []
    pids: list[int] = []
    for number in range(WRITERS):
        pid, reader = start_writer(number, readers)
        epoll.register(reader, select.EPOLLIN | (select.EPOLLET if number % 2 else 0))
        pids.append(pid)
        readers.append(reader)
    offsets = [0] * WRITERS
    running()
    while go_on():
        for fd, events in epoll.poll():
            equal(events, select.EPOLLIN, "events of a pipe with a writer")
            number = readers.index(fd)
            while data := read(fd):
                equal(data == text(number, offsets[number], len(data)), True, f"data of writer {number} is intact")
                offsets[number] += len(data)
                # The edge-triggered ones speak up only once, so they are read until they are empty.
                if number % 2 == 0 or not go_on():
                    break
    for fd in readers:
        os.close(fd)
    equal([reap(pid) for pid in pids], [0] * WRITERS, "statuses of the writers")


if __name__ == "__main__":
    run(main)
