"""Making a task's address space from its creator's.

The root starts empty. Every other task starts with a copy-on-write copy of its creator's memory, of which it keeps the
mappings that it has in common with it and, in those, all pages whose bytes are the same.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.pagemap import PageReader
from engine.images.runs import PAGE
from engine.images.text import get_text
from engine.lazy.restored import LazyTasks
from engine.tape.stub import STUB_SIZE
from engine.tape.tape import Tape
from engine.task import mm, pages, segments
from engine.task import vma as vmas
from engine.task.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.channel import Channel

Message = Any

_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_SPECIAL_NAMES = ("[vvar]", "[vvar_vclock]", "[vdso]")
_MAPPINGS_PER_TAPE = 5000
_PROT_WRITE = 2
_MADV_POPULATE_WRITE = 23
_SAME = ("start", "end", "pgoff", "shmid", "flags", "status")


class AddressSpace:
    """What a task's memory shall be, and which of it has to be written.

    content  its private pages, ascending: from its pagemap and those of the parent directories; without those that
             come later (--lazy-pages)
    rights   what each mapping allows until finish(), by start address
    """

    def __init__(self, task: RestoredTask, ctx: RestoreContext) -> None:
        self.task = task
        self.entries = mm.mappings(task.mm)
        self._reader = PageReader(ctx.images, task.pid, "PAGEMAP")
        stored = [
            Segment(vaddr, vaddr + nr_pages * PAGE, fd, offset)
            for vaddr, nr_pages, fd, offset in self._reader.segments()
        ]
        special = [(e.start, e.end) for e in task.mm.vmas if e.status & (vmas.VDSO | vmas.VVAR | vmas.VSYSCALL)]
        self.rights: dict[int, int] = {}
        try:
            later = ctx.part(LazyTasks).leave_out(task.pid, task.mm, self._reader)
            self._come_later = {start for start, _ in later}
            self.content = segments.outside(stored, sorted([*special, *later]))
            self._check_content()
        except BaseException:
            self.close()
            raise

    def _check_content(self) -> None:
        """All content must lie in private mappings: in shared ones it would end up in somebody's file."""
        private = iter([(entry.start, entry.end) for entry in self.entries if vmas.has_pages(entry)])
        start, end = next(private, (0, 0))
        for segment in self.content:
            position = segment.start
            while position < segment.end:
                while end and end <= position:
                    start, end = next(private, (0, 0))
                if not start <= position < end:
                    name = f"pagemap-{self.task.pid}.img"
                    raise CrError(f"{name}: the page at {position:#x} is in no private mapping; the image is damaged")
                position = end

    def close(self) -> None:
        self._reader.close()

    def rebuild(self, ctx: RestoreContext, creator: AddressSpace | None, base: int, channel: Channel) -> Iterator[None]:
        """Unmap, map, fill. Yields while the task reads its pages: others may go on."""
        stub = self.task.stub
        kept = self._kept(creator)
        write, empty = segments.to_write(self.content, creator.content if creator else [], kept)
        new = [entry for entry in self.entries if entry.start not in self.rights]
        for entry in new:
            self.rights[entry.start] = entry.prot | (_PROT_WRITE if self._is_written(entry) else 0)
        ctx.progress.expect(sum(segment.end - segment.start for segment in write))
        files = _Files(ctx, self.task, new, [segment.fd for segment in write])
        channel.send(stub, files.fds)
        tape = Tape()
        self._unmap_rest(tape, kept, base)
        pages.empty_pages(tape, empty)
        same_exe = creator is not None and creator.task.mm.exe_file_id == self.task.mm.exe_file_id
        mm.restore_layout(tape, self.task.mm, -1 if same_exe else files.exe)
        for number, entry in enumerate(new, 1):
            mm.map_area(tape, entry, files.of_mapping(entry), self.rights[entry.start])
            if number % _MAPPINGS_PER_TAPE == 0:
                stub.run(tape)
                tape = Tape()
        stub.run(tape)
        for fd in dict.fromkeys(segment.fd for segment in write):
            own = [segment for segment in write if segment.fd == fd]
            for tape, size, verify in pages.read_pages(self.task.pid, own, files.of_pages(fd)):
                stub.start(tape)
                yield
                stub.finish(tape)
                verify()
                ctx.progress.add(size)
        tape = Tape()
        tape.call("close_range", 0, len(files.fds) - 1, 0)
        stub.run(tape)
        files.close()

    def _kept(self, creator: AddressSpace | None) -> list[tuple[int, int]]:
        """Mappings that are the creator's too. Rights, advice and locks, which finish() sets, need not agree, but
        pages can only be read in where writing is allowed until then. A task whose executable is another one must
        have unmapped the creator's before it can say so."""
        kept: list[tuple[int, int]] = []
        if creator is None:
            return kept
        known = {_identity(entry): creator.rights[entry.start] for entry in creator.entries if vmas.is_private(entry)}
        other_exe = creator.task.mm.exe_file_id if creator.task.mm.exe_file_id != self.task.mm.exe_file_id else 0
        for entry in self.entries:
            rights = known.get(_identity(entry))
            if rights is None or (other_exe and entry.shmid == other_exe):
                continue
            if self._is_written(entry) and not rights & _PROT_WRITE:
                continue
            kept.append((entry.start, entry.end))
            self.rights[entry.start] = rights
        return kept

    def _is_written(self, entry: Message) -> bool:
        """Whether any content lies in a mapping: bisection, since both lists can be long. Or comes later: what was ever
        allowed to be written is accounted for as memory."""
        if entry.start in self._come_later:
            return True
        index = bisect_right(self.content, entry.start, key=lambda segment: segment.end)
        return index < len(self.content) and self.content[index].start < entry.end

    def _unmap_rest(self, tape: Tape, kept: list[tuple[int, int]], base: int) -> None:
        """Take away all that is neither kept nor the stub's."""
        position = 0
        for start, end in sorted([*kept, (base, base + STUB_SIZE), (mm.TASK_SIZE, mm.TASK_SIZE)]):
            if start > position:
                tape.call("munmap", position, start - position)
            position = end

    def finish(self, tape: Tape) -> None:
        """After all children exist: final rights, advice, locks. Aio rings get theirs when they are made."""
        for entry in self.entries:
            if entry.start in self._come_later and not entry.prot & _PROT_WRITE:
                # Only what has been written stays accounted for when it must not be written any more (mm/mprotect.c).
                tape.call("madvise", entry.start, PAGE, _MADV_POPULATE_WRITE, may_fail=True)
            if not entry.status & vmas.AIORING:
                mm.finish_area(tape, entry, self.rights[entry.start])
        mm.restore_guards(tape, self.task.mm)


def _identity(entry: Message) -> tuple[int, ...]:
    return tuple(getattr(entry, name) for name in _SAME)


class _Files:
    """The descriptors that a task needs to make its memory, in the order in which the channel brings them."""

    def __init__(self, ctx: RestoreContext, task: RestoredTask, new: list[Message], page_fds: list[int]) -> None:
        self.fds: list[int] = []
        self._opened: dict[tuple[int, int], int] = {}
        self.exe = self._open(ctx, task.mm.exe_file_id, os.O_RDONLY)
        self._given: dict[int, int] = {}
        for entry in new:
            if entry.status & vmas.EXT_PLUGIN:
                self._ask_plugins(ctx, task, entry)
            if vmas.is_of_file(entry) and entry.start not in self._given:
                self._open(ctx, entry.shmid, entry.fdflags)
        self._own = len(self.fds)
        self._pages = {fd: self._own + n for n, fd in enumerate(dict.fromkeys(page_fds))}
        self.fds += self._pages

    def _open(self, ctx: RestoreContext, file_id: int, mode: int) -> int:
        """The number that a file will have in the task."""
        key = (file_id, mode & os.O_ACCMODE)
        if key not in self._opened:
            kind, message = ctx.submessage(file_id)
            self.fds.append(kind.open_mapped(message, mode & os.O_ACCMODE, ctx))
            self._opened[key] = len(self.fds) - 1
        return self._opened[key]

    def _ask_plugins(self, ctx: RestoreContext, task: RestoredTask, entry: Message) -> None:
        """What a mapping of a device shall be of may be another offset now, or a descriptor that a plugin gives."""
        path = get_text(ctx.submessage(entry.shmid)[1].name)
        about = f"mapping {entry.start:x}-{entry.end:x} ({path}) of task {task.pid}"
        found = ctx.plugins.ask("UPDATE_VMA_MAP", about, path, entry.start, entry.pgoff)
        if found is None:
            return
        plugin, answer = found
        try:
            fd, entry.pgoff = answer
            if fd != -1:
                os.fstat(fd)
        except (TypeError, ValueError, OSError) as error:
            what = f"returned {answer!r}, not (descriptor or -1, offset)"
            raise plugin.error("UPDATE_VMA_MAP", about, what) from error
        if fd != -1:
            self.fds.append(fd)
            self._given[entry.start] = len(self.fds) - 1

    def of_mapping(self, entry: Message) -> int:
        """The task's descriptor of a mapped file, -1 for anonymous memory."""
        if entry.start in self._given:
            return self._given[entry.start]
        if vmas.is_of_file(entry):
            return self._opened[entry.shmid, entry.fdflags & os.O_ACCMODE]
        return -1

    def of_pages(self, fd: int) -> int:
        return self._pages[fd]

    def close(self) -> None:
        for fd in self.fds[: self._own]:
            os.close(fd)


def park_vdso(tape: Tape, pid: int, parking: int) -> list[tuple[int, int]]:
    """Move the kernel's own mappings of a fresh stub out of the way. Returns their (address, size), ascending."""
    parked = []
    with open(f"/proc/{pid}/maps") as maps:
        special = [line.split() for line in maps if line.split()[-1] in _SPECIAL_NAMES]
    for bounds, *_ in special:
        start, end = (int(text, 16) for text in bounds.split("-"))
        tape.call("mremap", start, end - start, end - start, _MREMAP_MAYMOVE | _MREMAP_FIXED, parking)
        parked.append((parking, end - start))
        parking += end - start
    return parked
