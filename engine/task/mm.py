"""The address space: mm-PID.img on dump, mappings and the kernel's notion of where code, heap and arguments lie on
restore. What the pages hold is in pages.py."""

from __future__ import annotations

import os
import struct
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.pagemap import guard_regions
from engine.kernel.prctl import PR_GET_DUMPABLE, PR_GET_THP_DISABLE, PR_SET_MM, PR_SET_THP_DISABLE
from engine.kernel.proc_maps import map_file, read_smaps
from engine.kernel.procfs import read_auxv
from engine.tape import arch as architectures
from engine.task import aio, uprobes
from engine.task import vma as vmas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from engine.dump_context import DumpContext
    from engine.kernel.proc_maps import Vma
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape
    from engine.task.tree import Task

    _Result = TypeVar("_Result")

Message = Any

_NOT_RESTORED = vmas.ANON_SHARED | vmas.SYSVIPC | vmas.SOCKET | vmas.SHSTK
_PR_SET_MM_MAP = 14
_MADV_NOHUGEPAGE, _MADV_GUARD_INSTALL = 15, 102
_MM_MAP = struct.Struct("<11QQII")
TASK_SIZE = int(architectures.current().task_size())


def collect(ctx: DumpContext, task: Task) -> Message:
    """mm_entry of a frozen task from the outside. Mapped files get their numbers in describe_files()."""
    from engine.images.schema import message

    stat = task.stat
    mm = message("mm_entry")()
    for name in ("code", "data"):
        setattr(mm, f"mm_start_{name}", getattr(stat, f"start_{name}"))
        setattr(mm, f"mm_end_{name}", getattr(stat, f"end_{name}"))
    mm.mm_start_stack, mm.mm_start_brk, mm.mm_brk = stat.start_stack, stat.start_brk, 0
    for name in ("arg_start", "arg_end", "env_start", "env_end"):
        setattr(mm, f"mm_{name}", getattr(stat, name))
    mm.mm_saved_auxv.extend(read_auxv(task.proc))
    task.vmas = uprobes.leave_out(ctx, task, read_smaps(task.proc))
    for vma in task.vmas:
        vmas.describe(ctx, task, vma, mm.vmas.add())
    _collect_guards(task, mm)
    aio.collect(ctx, task, mm)
    return mm


def _collect_guards(task: Task, mm: Message) -> None:
    """Guard regions (MADV_GUARD_INSTALL) are no mappings, but stand among them in images, at the end of the list."""
    private = [(entry.start, entry.end) for entry in mm.vmas if vmas.has_pages(entry)]
    for start, end in guard_regions(task.proc, private):
        mm.vmas.add(start=start, end=end, pgoff=0, shmid=0, prot=0, flags=0, status=vmas.GUARD, fd=-1)


def describe_files(ctx: DumpContext, task: Task, mm: Message) -> None:
    """Give the executable and every mapped file its number in files.img."""
    from engine.objects.memfd import mapped_memfd_id
    from engine.objects.regular import mapped_file_id

    mm.exe_file_id = _with_file(f"/proc/{task.proc}/exe", partial(mapped_file_id, ctx, task))
    known: dict[tuple[int, int, str, bool], int] = {}
    for vma, entry in _mapped_files(task, mm):
        file = (vma.dev, vma.ino, vma.name, vma.deleted)
        if file not in known:
            describe = mapped_memfd_id if entry.status & vmas.MEMFD else mapped_file_id
            known[file] = _with_file(map_file(task.proc, vma), partial(describe, ctx, task))
        entry.shmid = known[file]


def refuse_files(ctx: DumpContext, task: Task, mm: Message) -> None:
    """Add to the problems what describe_files() would find, without writing anything."""
    from engine.objects.regular import refuse_mapped

    links = [map_file(task.proc, vma) for vma, entry in _mapped_files(task, mm) if not entry.status & vmas.MEMFD]
    for link in (f"/proc/{task.proc}/exe", *links):
        _with_file(link, partial(refuse_mapped, ctx, task))


def _mapped_files(task: Task, mm: Message) -> Iterator[tuple[Vma, Message]]:
    """Mappings of files with their entries. The entries have guard regions at their end, which are no mappings."""
    return ((vma, entry) for vma, entry in zip(task.vmas, mm.vmas, strict=False) if vmas.is_of_file(entry))


def _with_file(path: str, describe: Callable[[int, str], _Result]) -> _Result:
    """Open a magic link of /proc for the length of a call. O_PATH: a device or a fifo must not notice."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return describe(fd, os.readlink(path))
    finally:
        os.close(fd)


def ask_task(tape: Tape, task: Task, mm: Message) -> Callable[[], None]:
    """Ask the task for what only it can tell: the end of its heap, dumpable, transparent huge pages."""
    brk = tape.call("brk", 0)
    dumpable = tape.call("prctl", PR_GET_DUMPABLE)
    thp = tape.call("prctl", PR_GET_THP_DISABLE, may_fail=True)
    rings = aio.ask_task(tape, task, mm)

    def answer() -> None:
        mm.mm_brk = brk.result
        mm.dumpable = dumpable.result
        if thp.result > 0:
            mm.thp_disabled = True
        rings()

    return answer


# Restore


def check(task: RestoredTask, ctx: RestoreContext) -> None:
    """Refuse an image whose mappings can't be: unordered, overlapping, outside of user space, of no known kind."""
    image = f"mm-{task.pid}.img"
    ctx.check_path(task.mm.exe_file_id, image)
    end = 0
    for entry in task.mm.vmas:
        if entry.status & (vmas.VSYSCALL | vmas.GUARD):
            continue
        where = f"{image}: mapping {entry.start:x}-{entry.end:x}"
        if entry.start % 4096 or entry.end % 4096 or not end <= entry.start < entry.end <= TASK_SIZE:
            ctx.problems.add(f"{where} is out of order or out of range", remedy="the image is damaged")
        elif entry.status & _NOT_RESTORED:
            ctx.problems.add(f"{where} is of a kind (status {entry.status:#x}) this engine does not restore")
        elif vmas.is_impossible(entry):
            ctx.problems.add(f"{where} has flags or advice that no mapping has", remedy="the image is damaged")
        elif vmas.is_of_file(entry):
            ctx.check_path(entry.shmid, where)
        end = max(end, entry.end)
    if any(entry.status & vmas.GUARD for entry in task.mm.vmas) and not _knows_guards():
        ctx.problems.add(f"{image}: this kernel has no guard regions", task.pid, "restore it on Linux 6.13 or newer")
    aio.check(task, ctx)


def mappings(mm: Message) -> list[Message]:
    """The mappings that mmap makes: not the kernel's own."""
    own = vmas.VDSO | vmas.VVAR | vmas.VSYSCALL | vmas.GUARD
    return [entry for entry in mm.vmas if not entry.status & own]


def free_area(mms: list[Message], size: int, taken: Iterable[tuple[int, int]] = ()) -> int:
    """The lowest address of `size` bytes that no mapping of any task uses, and that lie outside of taken ranges."""
    place = 0x10000
    for start, end in sorted([*((entry.start, entry.end) for mm in mms for entry in mm.vmas), *taken]):
        if start >= place + size:
            break
        place = max(place, end)
    if place + size > TASK_SIZE:
        raise CrError(f"no {size} bytes of address space are free in all tasks of the tree")
    return place


def map_area(tape: Tape, entry: Message, fd: int, prot: int) -> None:
    """Add the mmap of one mapping. fd: the task's descriptor of the file, -1 for none. prot: its rights until
    finish_area(), which may have to be more than it shall have, since pages are to be read into it."""
    flags = entry.flags & ~vmas.MAP_LOCKED | vmas.MAP_FIXED
    if entry.status & vmas.AIORING:
        flags = vmas.MAP_PRIVATE | vmas.MAP_ANONYMOUS | vmas.MAP_FIXED
    if entry.flags & vmas.MAP_DROPPABLE:
        flags = (flags if _knows_droppable() else flags ^ vmas.MAP_DROPPABLE | vmas.MAP_PRIVATE) | vmas.MAP_ANONYMOUS
    tape.call("mmap", entry.start, entry.end - entry.start, prot, flags, fd, 0 if fd < 0 else entry.pgoff)
    if entry.madv >> _MADV_NOHUGEPAGE & 1:
        # Before the first page is read in, which would bring 511 more where huge pages are for all.
        tape.call("madvise", entry.start, entry.end - entry.start, _MADV_NOHUGEPAGE)


@cache
def _knows_droppable() -> bool:
    """MAP_DROPPABLE (Linux 6.11). Before that ordinary memory has to do, which is merely never dropped: that a fork
    wipes it is said by an advice of its own. glibc keeps the state of getrandom(3) in it where the vDSO has that."""
    import mmap

    try:
        mmap.mmap(-1, mmap.PAGESIZE, flags=vmas.MAP_DROPPABLE | vmas.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True


@cache
def _knows_guards() -> bool:
    """MADV_GUARD_INSTALL (Linux 6.13). A mapping without rights would not do instead: it can't be told to be one."""
    import mmap

    with mmap.mmap(-1, mmap.PAGESIZE, flags=vmas.MAP_PRIVATE | vmas.MAP_ANONYMOUS) as area:
        try:
            area.madvise(_MADV_GUARD_INSTALL)
        except OSError:
            return False
    return True


def finish_area(tape: Tape, entry: Message, prot: int) -> None:
    """After all children exist: the rights, advice and locks that would have got in the way before."""
    size = entry.end - entry.start
    if prot != entry.prot:
        tape.call("mprotect", entry.start, size, entry.prot)
    for advice in range(1, 64):
        if entry.madv >> advice & 1:
            tape.call("madvise", entry.start, size, advice)
    if entry.flags & vmas.MAP_LOCKED:
        tape.call("mlock", entry.start, size)


def restore_guards(tape: Tape, mm: Message) -> None:
    """The last that is done to memory: nothing can be read into a guarded page."""
    for entry in mm.vmas:
        if entry.status & vmas.GUARD:
            tape.call("madvise", entry.start, entry.end - entry.start, _MADV_GUARD_INSTALL)


def restore_layout(tape: Tape, mm: Message, exe: int) -> None:
    """Tell the kernel where things lie: prctl(PR_SET_MM_MAP), and the executable.

    exe: the task's descriptor of it, -1 to leave it. The old one must not be mapped any more.
    """
    auxv = tape.buffer(struct.pack(f"<{len(mm.mm_saved_auxv)}Q", *mm.mm_saved_auxv))
    fields = (
        mm.mm_start_code, mm.mm_end_code, mm.mm_start_data, mm.mm_end_data, mm.mm_start_brk, mm.mm_brk,
        mm.mm_start_stack, mm.mm_arg_start, mm.mm_arg_end, mm.mm_env_start, mm.mm_env_end,
    )  # fmt: skip
    sizes = auxv.size | (exe & 0xFFFFFFFF) << 32
    layout = tape.words(*fields, auxv, sizes)
    tape.call("prctl", PR_SET_MM, _PR_SET_MM_MAP, layout, _MM_MAP.size, 0)
    tape.call("prctl", PR_SET_THP_DISABLE, int(mm.thp_disabled), 0, 0, 0, may_fail=not mm.thp_disabled)
