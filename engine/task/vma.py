"""Mappings: what each one of a task is, as the vma_entry of its mm image.

status, flags and madv are bit sets with the numbers that images have always had; see proto/vma.proto.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.kernel.proc_maps import map_file, stat_map_file

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.kernel.proc_maps import Vma
    from engine.task.tree import Task

Message = Any

REGULAR, VSYSCALL, VDSO, HEAP = 1, 4, 8, 32
FILE_PRIVATE, FILE_SHARED, ANON_SHARED, ANON_PRIVATE = 64, 128, 256, 512
SYSVIPC, SOCKET, VVAR, AIORING, MEMFD, SHSTK, GUARD = 1024, 2048, 4096, 8192, 16384, 32768, 65536
EXT_PLUGIN = 1 << 27

MAP_SHARED, MAP_PRIVATE, MAP_DROPPABLE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 8, 0x10, 0x20
MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE, MAP_HUGETLB = 0x100, 0x2000, 0x4000, 0x40000
HUGETLB_SHIFT = 26

_FLAG_OF = {
    "gd": MAP_GROWSDOWN, "lo": MAP_LOCKED, "nr": MAP_NORESERVE, "ht": MAP_HUGETLB, "dp": MAP_DROPPABLE
}  # fmt: skip
_MADVICE_OF = {"sr": 2, "rr": 1, "dc": 10, "mg": 12, "hg": 14, "nh": 15, "dd": 16, "wf": 18}
MADV_DONTFORK, MADV_WIPEONFORK = _MADVICE_OF["dc"], _MADVICE_OF["wf"]
_MADVICE = sum(1 << advice for advice in _MADVICE_OF.values())
_TYPE_OF_MAP = 0xF
_FLAGS = _TYPE_OF_MAP | MAP_FIXED | MAP_ANONYMOUS | sum(_FLAG_OF.values())
_HUGE_FLAGS = _FLAGS | 0x3F << HUGETLB_SHIFT
_SPECIAL = {"[vdso]": VDSO, "[vvar]": VVAR, "[vvar_vclock]": VVAR, "[heap]": HEAP}
_DEV_ZERO = os.makedev(1, 5)
_MEMFD_NAMES = ("/memfd:", "/dev/zero", "/anon_hugepage")
_LAZY_NOT = VDSO | VVAR | VSYSCALL | AIORING
_MADV_WIPEONFORK = 18


def is_private(entry: Message) -> bool:
    """Whether pages of this mapping stand in the task's own pagemap."""
    return bool(entry.status & REGULAR and entry.status & (ANON_PRIVATE | FILE_PRIVATE) or entry.status & AIORING)


def has_pages(entry: Message) -> bool:
    """Whether the mapping's private pages are to be stored: never the kernel's own and those it may drop."""
    return is_private(entry) and not entry.status & (VVAR | VSYSCALL) and not entry.flags & MAP_DROPPABLE


def is_lazy(entry: Message) -> bool:
    """Whether its pages may be fetched on demand after a restore (PE_LAZY). Not those that a fork empties: the child's
    userfaultfd says nothing of that."""
    anonymous = entry.flags & MAP_ANONYMOUS and entry.flags & MAP_PRIVATE
    excluded = entry.flags & (MAP_LOCKED | MAP_HUGETLB) or entry.status & _LAZY_NOT
    return bool(anonymous and not excluded and not entry.madv >> _MADV_WIPEONFORK & 1)


def is_inherited(entry: Message) -> bool:
    """Whether a forked child has the mapping's private pages by copy-on-write. Not so with advice against it, and not
    in rings of aio, which are shared. A child that has huge pages may lose them when its parent writes to its own and
    there are no more (mm/hugetlb.c, hugetlb_wp)."""
    advice = 1 << MADV_DONTFORK | 1 << MADV_WIPEONFORK
    return not (entry.status & AIORING or entry.flags & MAP_HUGETLB or entry.madv & advice)


def is_of_file(entry: Message) -> bool:
    """Whether the mapping is of a file, whose number in files.img is its shmid."""
    return bool(entry.status & (FILE_PRIVATE | FILE_SHARED))


def is_impossible(entry: Message) -> bool:
    """Whether an image asks for what no dump writes. Some flags and some advice of mmap(2) and madvise(2) do something
    instead of describing something: MADV_REMOVE would punch a hole into a file."""
    if entry.status & AIORING:
        return bool(entry.status != AIORING)
    backing = entry.status & (FILE_PRIVATE | FILE_SHARED | ANON_PRIVATE)
    return (
        not entry.status & REGULAR
        or backing not in (FILE_PRIVATE, FILE_SHARED, ANON_PRIVATE)
        or is_of_file(entry) == bool(entry.flags & (MAP_ANONYMOUS | MAP_DROPPABLE))
        or entry.flags & _TYPE_OF_MAP not in (MAP_SHARED, MAP_PRIVATE, MAP_DROPPABLE)
        or bool(entry.flags & ~(_HUGE_FLAGS if entry.flags & MAP_HUGETLB else _FLAGS))
        or bool(entry.madv & ~_MADVICE)
    )


@cache
def _flags_and_madvice(codes: frozenset[str]) -> tuple[int, int]:
    """What the codes of a VmFlags line mean for the vma_entry. A task has few different lines."""
    flags = sum(flag for code, flag in _FLAG_OF.items() if code in codes)
    return flags, sum(1 << advice for code, advice in _MADVICE_OF.items() if code in codes)


def describe(ctx: DumpContext, task: Task, vma: Vma, entry: Message) -> None:
    """Fill a vma_entry. What can't be restored goes to ctx.problems."""
    entry.start, entry.end, entry.pgoff, entry.shmid = vma.start, vma.end, vma.pgoff, 0
    entry.prot, entry.fd = vma.prot, -1
    flags, madvice = _flags_and_madvice(vma.flags)
    if "dp" not in vma.flags:
        flags |= MAP_SHARED if vma.shared else MAP_PRIVATE
    if "ht" in vma.flags:
        flags |= (vma.page_size.bit_length() - 1) << HUGETLB_SHIFT
    entry.flags = flags
    if madvice:
        entry.madv = madvice
    _classify(ctx, task, vma, entry)


def _classify(ctx: DumpContext, task: Task, vma: Vma, entry: Message) -> None:
    where = f"mapping {vma.start:x}-{vma.end:x} ({vma.name or 'anonymous'})"
    if "um" in vma.flags:
        what = f"{where}: pages of it may be missing, which somebody is to bring by userfaultfd"
        ctx.problems.add(what, task.pid, "wait until the lazy-pages daemon has ended")
    if vma.name == "[vsyscall]":
        entry.status = VSYSCALL | ANON_PRIVATE
        entry.flags |= MAP_ANONYMOUS
    elif not (vma.dev or vma.ino):
        entry.status = REGULAR | ANON_PRIVATE | _SPECIAL.get(vma.name, 0)
        entry.flags |= MAP_ANONYMOUS
        if {"io", "pf"} & vma.flags and vma.name not in _SPECIAL:
            ctx.problems.add(f"{where}: a mapping of device memory can't be dumped", task.pid, "close the device")
    else:
        _classify_file(ctx, task, vma, entry, where)


class _MappedFiles:
    """What stat(2) says of the files that are mapped, each of which mostly is several times."""

    def __init__(self, _: DumpContext) -> None:
        self._seen: dict[tuple[int, int, str], os.stat_result] = {}

    def stat(self, pid: int, vma: Vma) -> os.stat_result:
        key = vma.dev, vma.ino, vma.name
        if key not in self._seen:
            self._seen[key] = stat_map_file(pid, vma)
        return self._seen[key]


def _classify_file(ctx: DumpContext, task: Task, vma: Vma, entry: Message, where: str) -> None:
    info = ctx.part(_MappedFiles).stat(task.proc, vma)
    if vma.name.startswith("/[aio]"):
        entry.status = AIORING
        entry.flags |= MAP_ANONYMOUS
    elif vma.name.startswith("/SYSV"):
        what = f"{where}: System V shared memory needs its IPC namespace dumped, which can't be done"
        ctx.problems.add(what, task.pid, "detach it before the dump")
    elif stat.S_ISCHR(info.st_mode) and info.st_rdev == _DEV_ZERO and not vma.shared:
        entry.status = REGULAR | ANON_PRIVATE
        entry.flags |= MAP_ANONYMOUS
        entry.pgoff = 0
    elif vma.name == "/anon_hugepage" and vma.deleted and not vma.shared:
        entry.status = REGULAR | ANON_PRIVATE
        entry.flags |= MAP_ANONYMOUS
        entry.pgoff = 0
    elif not stat.S_ISREG(info.st_mode) and not _is_for_plugin(ctx, task, vma, entry, where):
        ctx.problems.add(f"{where}: a mapping of this kind of file can't be dumped", task.pid, "close the device")
    else:
        entry.status |= REGULAR | (FILE_SHARED if vma.shared else FILE_PRIVATE)
        if vma.deleted and vma.name.startswith(_MEMFD_NAMES):
            entry.status |= MEMFD
        entry.fdflags = _open_mode(task.proc, vma)


def _is_for_plugin(ctx: DumpContext, task: Task, vma: Vma, entry: Message, where: str) -> bool:
    """Whether a plugin sees to what is behind a mapping of a device (entry.status says so then), or has failed to."""
    if not ctx.plugins.having("HANDLE_DEVICE_VMA"):
        return False
    with ctx.problems:
        fd = os.open(f"/proc/{task.proc}/map_files/{vma.start:x}-{vma.end:x}", os.O_PATH | os.O_CLOEXEC)
        try:
            found = ctx.plugins.ask("HANDLE_DEVICE_VMA", f"{where} of task {task.pid}", fd, os.fstat(fd))
        finally:
            os.close(fd)
        if found is None:
            return False
        entry.status = EXT_PLUGIN
    return True


def _open_mode(pid: int, vma: Vma) -> int:
    """The access mode of the mapped file, which limits what mprotect(2) may do later: the permission bits of the link
    in map_files are the file's FMODE_READ and FMODE_WRITE (fs/proc/base.c, proc_map_files_instantiate)."""
    mode = os.lstat(map_file(pid, vma)).st_mode
    if mode & stat.S_IWUSR:
        return os.O_RDWR if mode & stat.S_IRUSR else os.O_WRONLY
    return os.O_RDONLY
