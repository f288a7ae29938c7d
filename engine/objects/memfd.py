"""Memory with a descriptor: memfd_create(2) files, and shared anonymous memory, which the kernel keeps in the same way.

memfd.img has the inodes, files.img a MEMFD entry for each description and one for the mappings of each inode, and
pagemap-shmem-SHMID.img the pages that are not holes. Shared anonymous memory has no descriptor of its own, but the
links in /proc/PID/map_files lead to one. It is written as a memfd of the name that the kernel shows for it, and made
anew by mapping such memory in the engine, whose own link in map_files gives the descriptor to fill it and to map it
by: it is then what it was, not a memfd.
"""

from __future__ import annotations

import fcntl
import os
import stat
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel.names import file_system_type
from engine.objects import memfd_pages
from engine.objects.base import FileKind
from engine.objects.external import inherited, is_inherited
from engine.objects.paths import DELETED, reopen
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext
    from engine.task.tree import Task

Message = Any

_PREFIX = "/memfd:"
_ANONYMOUS = ("/dev/zero", "/anon_hugepage")
"""Names of shared memory that was made by mmap(2) alone: of small pages, of huge ones."""
_HUGETLBFS_MAGIC = 0x958458F6
_MFD_EXEC = 0x10
_F_SEAL_SEAL, _F_SEAL_WRITE = 1, 8


class Memfd(FileKind):
    """MEMFD."""

    type = 18
    field = "memfd"
    has_path = True

    def recognise(self, file: OpenFile) -> bool:
        return is_memory(file.copy, file.stat, file.link)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        inode_id = ctx.part(_DumpedMemfds).inode_id(file.copy, file.stat, file.link)
        return _file_entry(file.id, inode_id, file.flags, file.fdinfo.pos)

    def finish_dump(self, ctx: DumpContext) -> None:
        ctx.images.write("MEMFD_INODE", ctx.part(_DumpedMemfds).entries)

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        inode = ctx.part(_RestoredMemfds).inodes.get(entry.inode_id)
        if inode is None:
            ctx.problems.add(f"memfd.img has no inode {entry.inode_id}", remedy="the image is damaged")
        elif not is_inherited(ctx, _key(inode)):
            memfd_pages.check(ctx.images, inode)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        memfds = ctx.part(_RestoredMemfds)
        given = inherited(ctx, _key(memfds.inodes[entry.inode_id]))
        if given is not None:
            return given
        access = os.O_PATH | os.O_NOFOLLOW if entry.flags & os.O_PATH else os.O_ACCMODE
        fd = reopen(memfds.fd(entry.inode_id), entry.flags & access & ~os.O_NOFOLLOW)
        if not entry.flags & os.O_PATH:
            set_flags(fd, entry.flags)
            os.lseek(fd, entry.pos, os.SEEK_SET)
        return fd

    def open_mapped(self, entry: Message, mode: int, ctx: RestoreContext) -> int:
        """What is going to be sealed against writing has to be mapped as if it were already: a shared mapping that
        mprotect(2) could make writable is in the way of the seal (fs/memfd.c, memfd_add_seals)."""
        memfds = ctx.part(_RestoredMemfds)
        inode = memfds.inodes[entry.inode_id]
        given = inherited(ctx, _key(inode))
        if given is not None:
            try:
                return reopen(given, mode)
            finally:
                os.close(given)
        sealed = inode.seals & _F_SEAL_WRITE
        return reopen(memfds.fd(entry.inode_id), os.O_RDONLY if sealed else mode)


MEMFD = Memfd()


@cache
def _shmem_device() -> int:
    """st_dev of what memfd_create(2) and mmap(2) make: that of a file system which is mounted nowhere."""
    fd = os.memfd_create("")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def is_memory(fd: int, info: os.stat_result, link: str) -> bool:
    """Whether a file is a memfd or shared anonymous memory. link: text of a link in /proc that leads to it."""
    name = link.removesuffix(DELETED)
    if info.st_nlink or not stat.S_ISREG(info.st_mode) or not (name.startswith(_PREFIX) or name in _ANONYMOUS):
        return False
    return info.st_dev == _shmem_device() or file_system_type(fd) == _HUGETLBFS_MAGIC


# Dump


def mapped_memfd_id(ctx: DumpContext, task: Task, fd: int, link: str) -> int:
    """The number in files.img of mapped memory. fd: a descriptor of the engine for it, O_PATH will do."""
    info = os.fstat(fd)
    if not is_memory(fd, info, link):
        from engine.objects.regular import mapped_file_id

        return mapped_file_id(ctx, task, fd, link)
    memfds = ctx.part(_DumpedMemfds)
    inode_id = memfds.inode_id(fd, info, link)
    if inode_id not in memfds.mapped:
        memfds.mapped[inode_id] = ctx.new_file_id()
        entry = _file_entry(memfds.mapped[inode_id], inode_id, 0, 0)
        from engine.objects import fown

        fown.clear(entry.fown)
        ctx.add_entry(MEMFD, entry)
    return memfds.mapped[inode_id]


def _file_entry(file_id: int, inode_id: int, flags: int, pos: int) -> Message:
    from engine.images.schema import message

    return message("memfd_file_entry")(id=file_id, flags=flags, pos=pos, inode_id=inode_id)


class _DumpedMemfds:
    """The inodes of a dump.

    entries  for memfd.img
    mapped   inode_id to the number in files.img of its mappings
    """

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._ids: dict[tuple[int, int], int] = {}
        self._shmids: set[int] = set()
        self.entries: list[Message] = []
        self.mapped: dict[int, int] = {}

    def inode_id(self, fd: int, info: os.stat_result, link: str) -> int:
        """The number of an inode; its pages are written when it is first met."""
        key = (info.st_dev, info.st_ino)
        if key not in self._ids:
            self._ids[key] = len(self._ids) + 1
            own = reopen(fd, os.O_RDONLY)
            try:
                self.entries.append(self._describe(own, info, link, self._ids[key]))
                memfd_pages.dump(own, self.entries[-1], self._ctx)
            finally:
                os.close(own)
        return self._ids[key]

    def _describe(self, fd: int, info: os.stat_result, link: str, inode_id: int) -> Message:
        from engine.images.schema import message

        self._shmids = self._shmids or _sysv_ids()
        shmid = info.st_ino & 0xFFFFFFFF
        while shmid in self._shmids:
            shmid = (shmid + 1 | 1 << 31) & 0xFFFFFFFF
        self._shmids.add(shmid)
        entry = message("memfd_inode_entry")(
            uid=info.st_uid, gid=info.st_gid, mode=info.st_mode, size=info.st_size, shmid=shmid, inode_id=inode_id
        )
        entry.seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        set_text(entry, "name", link.removesuffix(DELETED).removeprefix(_PREFIX))
        if file_system_type(fd) == _HUGETLBFS_MAGIC:
            entry.hugetlb_flag = memfd_pages.MFD_HUGETLB | (info.st_blksize.bit_length() - 1) << memfd_pages.HUGE_SHIFT
        return entry


def _sysv_ids() -> set[int]:
    """Numbers of System V segments: their page maps have the same kind of name."""
    try:
        with open("/proc/sysvipc/shm") as file:
            return {int(line.split()[1]) for line in file.readlines()[1:]}
    except FileNotFoundError:
        return set()


# Restore


def _key(inode: Message) -> str:
    """By what key --inherit-fd calls a memfd."""
    return _PREFIX + get_text(inode.name)


class _RestoredMemfds:
    """The inodes of a restore, made at the first need of each.

    inodes  memfd_inode_entry by its inode_id
    """

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._fds: dict[int, int] = {}
        self.inodes = {entry.inode_id: entry for entry in ctx.images.read("MEMFD_INODE")}
        ctx.on_success(self._seal)
        ctx.at_end(self._close)

    def fd(self, inode_id: int) -> int:
        """The engine's descriptor of an inode, for reading and writing, with the contents in it."""
        if inode_id not in self._fds:
            entry = self.inodes[inode_id]
            try:
                fd = self._fds[inode_id] = _make(entry)
                memfd_pages.restore(fd, entry, self._ctx.images)
                os.fchown(fd, entry.uid, entry.gid)
                if entry.HasField("mode"):
                    os.fchmod(fd, stat.S_IMODE(entry.mode))
            except OSError as error:
                what = f"memfd {get_text(entry.name)} of {entry.size} bytes"
                raise CrError(f"{what}: can't be made: {error.strerror} (is there enough memory?)") from error
        return self._fds[inode_id]

    def _seal(self) -> None:
        """When everything is mapped, since seals are in the way of mappings; before tasks run, since a descriptor that
        can write is in the way of execveat(2)."""
        for inode_id, fd in self._fds.items():
            entry = self.inodes[inode_id]
            missing = entry.seals & ~fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            try:
                if missing:
                    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, missing)
            except OSError as error:
                what = f"memfd {get_text(entry.name)}: can't be sealed ({entry.seals:#x})"
                raise CrError(f"{what}: {error.strerror}") from error

    def _close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


def _make(entry: Message) -> int:
    """An empty inode of the right kind and name, with its size to come, or, where there is no changing it, set."""
    name = get_text(entry.name)
    if name in _ANONYMOUS:
        return memfd_pages.make_anonymous(entry.size, entry.hugetlb_flag >> memfd_pages.HUGE_SHIFT)
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | entry.hugetlb_flag
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:  # Linux before 6.3; or vm.memfd_noexec is 2, and then its execute permission is no loss
        return os.memfd_create(name, flags)
