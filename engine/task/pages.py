"""The content of private memory. It never passes through Python: the task itself writes its pages to the image file
on dump, and reads them from there on restore, one pwritev or preadv for up to 1024 pieces.

Which pages a task that is restored reads, and which it has from its creator: segments.py.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from engine.errors import CrError
from engine.images.runs import LAZY, PRESENT
from engine.kernel.procfs import RLIM_INFINITY
from engine.tape.tape import Tape
from engine.task import vma as vmas
from engine.task.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from engine.kernel.memory import Memory

Message = Any

IOV_MAX = 1024
_MAX_RW_COUNT = 0x7FFFF000
_IOVECS_PER_TAPE = 32 * IOV_MAX
_BYTES_PER_TAPE = 32 << 20
_MADV_DONTNEED = 4
_RLIMIT_FSIZE = 1
_PROT_READ = 1
_PORTION = 1 << 18


class Inside(Protocol):
    """What runs tapes in an address space: a Visit, or the twin of a task."""

    def lend(self, fd: int) -> AbstractContextManager[int]: ...

    def start(self, tape: Tape) -> None: ...

    def finish(self, tape: Tape) -> None: ...


class Owner(Protocol):
    """Whose pages are written: a task, or its deputy."""

    @property
    def pid(self) -> int: ...

    @property
    def core(self) -> Message: ...

    @property
    def memory(self) -> Memory: ...

    @property
    def visit(self) -> Inside | None: ...


class Run(NamedTuple):
    """Pages that follow one another in memory and, if PRESENT, in the image file. offset: where in the file."""

    start: int
    end: int
    flags: int
    offset: int
    readable: bool


Piece = TypeVar("Piece", Run, Segment)


def runs_to_store(mm: Message, own: Iterator[tuple[int, int]]) -> list[Run]:
    """The pages to store, ascending, split where the mapping or its flags change. vDSO and aio rings: all of them.

    own: (start, end) of the pages with content of their own, ascending
    """
    runs: list[Run] = []
    offset = 0
    start, end = next(own, (0, 0))
    for entry in mm.vmas:
        if not vmas.has_pages(entry):
            continue
        flags = PRESENT | (LAZY if vmas.is_lazy(entry) else 0)
        if entry.status & (vmas.VDSO | vmas.AIORING):
            runs.append(Run(entry.start, entry.end, flags, offset, False))
            offset += entry.end - entry.start
            continue
        while end and start < entry.end:
            low, high = max(start, entry.start), min(end, entry.end)
            if low < high:
                runs.append(Run(low, high, flags, offset, bool(entry.prot & _PROT_READ)))
                offset += high - low
            if end > entry.end:
                break
            start, end = next(own, (0, 0))
    return runs


def size_of(runs: list[Run]) -> int:
    """Bytes that are stored."""
    return sum(run.end - run.start for run in runs if run.flags & PRESENT)


def write_pages(task: Owner, runs: list[Run], file: int, original: Callable[[int, int], bytes | None]) -> Iterator[int]:
    """Let a visited task write its pages into the image file. Yields while the task writes, and how many bytes: others
    may begin. Pages that are sent elsewhere: page_stream.py.

    original  the bytes of a range that the visit itself has changed (the vDSO), else None
    A task with a limit on file size can't write for us, and pages it may not read itself are not its to write: those
    go through the engine.
    """
    limited = _limits_file_size(task)
    stored = [run for run in runs if run.flags & PRESENT]
    not_by_task = [run for run in stored if limited or not run.readable]
    by_task = [] if limited else [run for run in stored if run.readable]
    assert task.visit is not None
    if by_task:
        with task.visit.lend(file) as number:
            for batch in _batches(by_task):
                tape = Tape()
                expected = _vectors(tape, "pwritev", number, batch)
                task.visit.start(tape)
                yield sum(size for _, size in expected)
                task.visit.finish(tape)
                _verify(task.pid, expected)
    for run in not_by_task:
        for offset, content in through_engine(task.memory, run, original):
            os.pwrite(file, content, offset)
            yield len(content)


def _limits_file_size(task: Owner) -> bool:
    return bool(task.core.tc.rlimits.rlimits[_RLIMIT_FSIZE].cur != RLIM_INFINITY)


def through_engine(
    memory: Memory, run: Run, original: Callable[[int, int], bytes | None]
) -> Iterator[tuple[int, bytes]]:
    """The pages of a run in portions: (offset in the image file, content)."""
    for start in range(run.start, run.end, _PORTION):
        end = min(run.end, start + _PORTION)
        yield run.offset + start - run.start, original(start, end) or memory.read(start, end - start)


def _batches(runs: list[Piece]) -> Iterator[list[Piece]]:
    """Runs in portions that fit on a tape and take a moment, so that it can be told how far they are."""
    batch: list[Piece] = []
    size = 0
    for run in runs:
        for start in range(run.start, run.end, _BYTES_PER_TAPE):
            end = min(run.end, start + _BYTES_PER_TAPE)
            batch.append(run._replace(start=start, end=end, offset=run.offset + start - run.start))
            size += end - start
            if len(batch) == _IOVECS_PER_TAPE or size >= _BYTES_PER_TAPE:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _vectors(tape: Tape, call: str, fd: int, pieces: list[Any]) -> list[tuple[Any, int]]:
    """Add pwritev or preadv calls for pieces that have start, end and offset. Returns (call, bytes expected)."""
    calls = []
    position = 0
    while position < len(pieces):
        first = pieces[position]
        words: list[int] = []
        size = 0
        while position < len(pieces) and len(words) < 2 * IOV_MAX:
            piece = pieces[position]
            length = piece.end - piece.start
            if piece.offset != first.offset + size or size + length > _MAX_RW_COUNT:
                break
            words += (piece.start, length)
            size += length
            position += 1
        # The offset is split into two words for 32-bit kernels; a 64-bit one ignores the second (fs/read_write.c).
        record = tape.call(call, fd, tape.words(*words), len(words) // 2, first.offset, 0)
        calls.append((record, size))
    return calls


def _verify(pid: int, expected: list[tuple[Any, int]]) -> None:
    for record, size in expected:
        if record.result != size:
            raise CrError(
                f"task {pid}: {record.name} moved {record.result} of {size} bytes (is the disk full, the image whole?)"
            )


def empty_pages(tape: Tape, ranges: list[tuple[int, int]]) -> None:
    """Add the calls that take inherited pages away."""
    for start, end in ranges:
        tape.call("madvise", start, end - start, _MADV_DONTNEED)


def read_pages(pid: int, segments: list[Segment], number: int) -> Iterator[tuple[Tape, int, Callable[[], None]]]:
    """Tapes that read segments of one image file, the task's descriptor `number`, each with how many bytes it reads and
    the check to make after."""
    for pieces in _batches(segments):
        tape = Tape()
        expected = _vectors(tape, "preadv", number, pieces)
        yield tape, sum(size for _, size in expected), partial(_verify, pid, expected)
