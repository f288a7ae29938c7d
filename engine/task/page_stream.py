"""A task sends its pages into a socket, to a page server or an image proxy.

The socket does not block, and MSG_NOSIGNAL keeps SIGPIPE away: a peer that has gone or stands still never holds up the
task, nor is there anything pending in it afterwards. It is the engine that waits until the socket takes more. What it
took of a call may be less than was given; the next one goes on there.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from itertools import groupby, islice
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.images.runs import PRESENT
from engine.tape.tape import Tape
from engine.task.pages import IOV_MAX, through_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.tape.tape import Buffer
    from engine.task.pages import Owner, Run
    from engine.transport.stream import StreamSink

    Piece = bytes | tuple[int, int]

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def send_pages(
    task: Owner, runs: list[Run], sink: StreamSink, original: Callable[[int, int], bytes | None]
) -> Iterator[int]:
    """As pages.write_pages(), but in the order of the runs. Nothing else may use the connection until it is done."""
    with ExitStack() as until_done:
        number = -1
        for by_task, part in groupby((run for run in runs if run.flags & PRESENT), lambda run: run.readable):
            if by_task and sink.channel.for_tasks >= 0:
                if number < 0:
                    assert task.visit is not None
                    number = until_done.enter_context(task.visit.lend(sink.channel.for_tasks))
                yield from _send(task, number, sink, _Queue(_pieces(sink, part)))
                continue
            for run in part:
                for _, content in through_engine(task.memory, run, original):
                    sink.put(content)
                    yield len(content)


def _pieces(sink: StreamSink, runs: Iterable[Run]) -> Iterator[Piece]:
    for run in runs:
        position = run.start
        for before, size in sink.pieces(run.end - run.start):
            if before:
                yield before
            yield position, position + size
            position += size


def _send(task: Owner, number: int, sink: StreamSink, queue: _Queue) -> Iterator[int]:
    """number: of the socket in the task. Yields how many bytes have been sent since the last time."""
    assert task.visit is not None
    sent = 0
    while queue.fill():
        sink.channel.wait_writable()
        tape = Tape()
        vectors = queue.vectors(tape)
        header = tape.words(0, 0, vectors, vectors.size // 16, 0, 0, 0)
        call = tape.call("sendmsg", number, header, _FLAGS, may_fail=True)
        task.visit.start(tape)
        yield sent
        task.visit.finish(tape)
        sent = max(call.result, 0)
        if not call.failed:
            queue.drop(sent)
        elif -call.result not in (errno.EAGAIN, errno.EINTR):
            raise _error(task, sink, -call.result)


def _error(task: Owner, sink: StreamSink, code: int) -> CrError:
    if code in (errno.EFAULT, errno.EACCES, errno.EPERM, errno.ENOMEM):
        return CrError(f"task {task.pid}: can't send its pages to {sink.channel.peer}: {os.strerror(code)}")
    return sink.channel.failed(OSError(code, os.strerror(code)))


class _Queue:
    """What a task has still to send: bytes of ours, and ranges of its memory."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._next: list[Piece] = []

    def fill(self) -> bool:
        """Have as many at hand as one call takes. False: there are none left."""
        self._next += islice(self._pieces, IOV_MAX - len(self._next))
        return bool(self._next)

    def vectors(self, tape: Tape) -> Buffer:
        """The iovecs of what is at hand."""
        words: list[int | Buffer] = []
        for piece in self._next:
            if isinstance(piece, bytes):
                words += (tape.buffer(piece), len(piece))
            else:
                words += (piece[0], piece[1] - piece[0])
        return tape.words(*words)

    def drop(self, size: int) -> None:
        """So many bytes have been sent."""
        for index, piece in enumerate(self._next):
            length = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            if size < length:
                rest = piece[size:] if isinstance(piece, bytes) else (piece[0] + size, piece[1])
                self._next[: index + 1] = [rest]
                return
            size -= length
        self._next.clear()
