"""Contexts of kernel aio: io_setup(2).

The number of a context is the address of its ring, a mapping that the kernel makes and writes completed requests to.
The task may read them there without a system call. The kernel keeps a tail of its own (struct kioctx), which only
completions move, so on restore a new ring is led to where the old one was: requests that read nothing are submitted
and taken up to the old head, and submitted up to the old tail. Then the old events are put over theirs and the ring is
moved to its old address, which is the context's number from then on (fs/aio.c, aio_ring_mremap).

The kernel tells nobody what is in flight. Requests that are not answered at once are nearly always direct I/O, whose
pages are pinned: the dump waits a while for all pins of the system to be gone, and what is not answered by then never
is. Polls may take for ever, so they are refused; they are found where the kernel can be looked into. A forked child has
the mapping, but not the context, which only the child can tell.
"""

from __future__ import annotations

import os
import re
import struct
import time
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.images.runs import PAGE
from engine.tape.tape import Tape
from engine.task import vma as vmas

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.stub import Stub
    from engine.task.tree import Task

Message = Any

_HEADER = struct.Struct("<8I")
"""struct aio_ring: id, nr, head, tail, magic, compatible and incompatible features, header_length"""
_EVENT_SIZE = 32
_IOCB = struct.Struct("<QIIHhIQQqQII")
"""struct iocb: data, key, rw_flags, lio_opcode, reqprio, fildes, buf, nbytes, offset, reserved, flags, resfd"""
_PREAD = 0
_AT_ONCE = 1024
_QUIET_SECONDS, _QUIET_STEP = 1.0, 0.001
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_PROT_RW = 3


class _Pins:
    """Waits, once in a dump, until no page of the system is pinned for I/O: there may be pins that stay, of a virtual
    machine for example, so the wait has an end."""

    def __init__(self, ctx: DumpContext) -> None:
        deadline = time.monotonic() + _QUIET_SECONDS
        while self._count() and time.monotonic() < deadline:
            time.sleep(_QUIET_STEP)

    @staticmethod
    def _count() -> int:
        with open("/proc/vmstat") as file:
            counts = dict(re.findall(r"^nr_foll_pin_(\w+) (\d+)$", file.read(), re.MULTILINE))
        return int(counts.get("acquired", 0)) - int(counts.get("released", 0))


def collect(ctx: DumpContext, task: Task, mm: Message) -> None:
    """mm_entry.aios: nr_req is a number of requests for which the kernel makes a ring of this size."""
    for entry in mm.vmas:
        if not entry.status & vmas.AIORING:
            continue
        ctx.part(_Pins)
        _refuse_polls(ctx, task, entry.start)
        size = entry.end - entry.start
        mm.aios.add(id=entry.start, nr_req=(_events_of(size) - 2) // 2, ring_len=size)


def _refuse_polls(ctx: DumpContext, task: Task, address: int) -> None:
    from engine.kernel.aio_requests import has_waiting

    try:
        waits = has_waiting(task.memory.fd, address)
    except OSError as error:
        log.warn(f"task {task.pid}: aio context {address:#x}: requests that wait can't be seen: {error.strerror}")
        return
    if waits:
        what = f"its aio context {address:#x} has poll requests that wait (IOCB_CMD_POLL), which can't be dumped"
        ctx.problems.add(what, task.pid, "have them cancelled (io_cancel)")


def _events_of(size: int) -> int:
    """How many events a ring holds. Its header says so, too, but that is the task's to write to."""
    return (size - _HEADER.size) // _EVENT_SIZE


def ask_task(tape: Tape, task: Task, mm: Message) -> Callable[[], None]:
    """Whether the contexts are the task's: for nothing at all, io_getevents(2) gives an error where there is none."""
    answers = [(ring.id, tape.call("io_getevents", ring.id, 0, 0, 0, 0, may_fail=True)) for ring in mm.aios]

    def answer() -> None:
        for address, call in answers:
            if call.failed:
                raise CrError(
                    f"task {task.pid}: the kernel aio context at {address:#x} is another process's, which it was forked"
                    " from (have it unmapped)"
                )

    return answer


# Restore


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """Every ring must be described and be of a size that this kernel makes, and there must be room for the requests."""
    rings = {ring.id: ring for ring in task.mm.aios}
    mapped = {entry.start: entry.end - entry.start for entry in task.mm.vmas if entry.status & vmas.AIORING}
    for address in sorted(rings.keys() | mapped.keys()):
        where = f"mm-{task.pid}.img: aio ring {address:x}"
        ring = rings.get(address)
        if ring is None or ring.ring_len != mapped.get(address):
            ctx.problems.add(f"{where} is not mapped as it is described", remedy="the image is damaged")
        elif _ring_size(ring.nr_req) != ring.ring_len:
            what = f"{where} is not of the size that this kernel makes for {ring.nr_req} requests"
            ctx.problems.add(what, remedy="restore on a machine with as many processors as that of the dump")
        else:
            ctx.part(_Room).take(ring.nr_req)


def _ring_size(requests: int) -> int:
    """What ioctx_alloc() and aio_setup_ring() make of a number of requests: twice as many, and at least eight for each
    processor that there may be, with two to spare; then as many pages as that takes."""
    events = 2 * max(requests, 4 * _possible_processors()) + 2
    return -(-(_HEADER.size + events * _EVENT_SIZE) // PAGE) * PAGE


def _possible_processors() -> int:
    """Of a list like 0-3,8."""
    with open("/sys/devices/system/cpu/possible") as file:
        ranges = [part.split("-") for part in file.read().strip().split(",")]
    return sum(int(numbers[-1]) - int(numbers[0]) + 1 for numbers in ranges)


class _Room:
    """How many requests the system takes yet."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._problems = ctx.problems
        self._left, self._said = _sysctl("aio-max-nr") - _sysctl("aio-nr"), False

    def take(self, requests: int) -> None:
        self._left -= requests
        if self._left < 0 and not self._said:
            self._said = True
            self._problems.add("the system has too few aio requests left", remedy="raise the sysctl fs.aio-max-nr")


def _sysctl(name: str) -> int:
    with open(f"/proc/sys/fs/{name}") as file:
        return int(file.read())


def restore(task: RestoredTask, ctx: RestoreContext) -> None:
    """Make the contexts. What the rings hold stands in ordinary memory at their places."""
    if not task.mm.aios:
        return
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    (number,) = ctx.channel.send(task.stub, [null])
    os.close(null)
    rights = {entry.start: entry.prot for entry in task.mm.vmas}
    for ring in task.mm.aios:
        _Ring(task, ring, number).restore(rights[ring.id])
    tape = Tape()
    tape.call("close", number)
    task.stub.run(tape)


class _Ring:
    """One context in the making. null: the task's descriptor of /dev/null, of which the requests read nothing."""

    def __init__(self, task: RestoredTask, ring: Message, null: int) -> None:
        self._task = task
        self._stub: Stub = task.stub
        self._ring = ring
        self._null = null

    def restore(self, prot: int) -> None:
        place, size = self._ring.id, self._ring.ring_len
        saved = self._stub.memory.read(place, size)
        _, _, head, tail, *_ = _HEADER.unpack_from(saved)
        count = _events_of(size)
        address = self._make()
        self._submit(address, head % count, take=True)
        self._submit(address, (tail - head) % count, take=False)
        self._stub.memory.write(address + _HEADER.size, saved[_HEADER.size :])
        tape = Tape()
        tape.call("mremap", address, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, place)
        if prot != _PROT_RW:
            tape.call("mprotect", place, size, prot)
        self._stub.run(tape)

    def _make(self) -> int:
        tape = Tape()
        context = tape.buffer(8)
        tape.call("io_setup", self._ring.nr_req, context)
        self._stub.run(tape)
        (address,) = context.unpack("<Q")
        return int(address)

    def _submit(self, address: int, count: int, take: bool) -> None:
        """Have so many requests completed, at once as they are, and their events taken. A ring takes about half as many
        as it has places: the others may be set aside for other processors (fs/aio.c, get_reqs_available)."""
        if not count:
            return
        calls = []
        most = min(self._ring.nr_req, _AT_ONCE)
        tape = Tape()
        request = tape.buffer(_IOCB.pack(0, 0, 0, _PREAD, 0, self._null, 0, 0, 0, 0, 0, 0))
        requests = tape.words(*[request] * most)
        events = tape.buffer(most * _EVENT_SIZE)
        for done in range(0, count, most):
            batch = min(count - done, most)
            calls.append((tape.call("io_submit", address, batch, requests), batch))
            if take:
                calls.append((tape.call("io_getevents", address, 0, batch, events, 0), batch))
        self._stub.run(tape)
        if any(call.result != batch for call, batch in calls):
            raise CrError(f"task {self._task.pid}: the new aio ring at {self._ring.id:#x} does not take {count} events")
