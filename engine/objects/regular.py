"""Files that are reached by a path: regular files, directories, symlinks, block devices, devices without state.

The same entries stand for what is in use without a descriptor: executables, mapped files, current and root
directories. A path that no longer leads to its file is remap.py's matter.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel.names import mount_id
from engine.objects import build_ids, fown
from engine.objects.base import FileKind
from engine.objects.ext_file import take
from engine.objects.external import inherited, is_external, is_inherited
from engine.objects.locks import DumpedLocks
from engine.objects.paths import open_name, problem_of, stat_name, without_tmpfile
from engine.objects.remap import DumpedRemaps, Target, Unreachable
from engine.objects.restored_remap import RestoredRemaps
from engine.objects.status_flags import O_ASYNC, SETTABLE

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext
    from engine.task.tree import Task

Message = Any

_FORMATS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFIFO)
_MEMORY_DEVICES = {(1, 3): "null", (1, 5): "zero", (1, 7): "full", (1, 8): "random", (1, 9): "urandom", (1, 11): "kmsg"}
_KMSG = os.makedev(1, 11)
_NO_SEEK = (1 << 64) - 1
_ACTS_ON_READ = {"proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "bpf", "devpts"}
"""File systems whose files do something when they are read: they are not looked into for a build id."""

_MAPPED = "a file without a descriptor"
_OPEN_ONCE = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC
_PROC_PID = re.compile(r"/proc/(\d+)(?:/|$)")


class RegularFile(FileKind):
    """REG."""

    type = 1
    field = "reg"
    has_path = True

    def recognise(self, file: OpenFile) -> bool:
        return file.link.startswith("/") and stat.S_IFMT(file.stat.st_mode) in _FORMATS

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        target = target_of(file)
        if is_external(ctx, external_key(target)):
            return
        device = file.stat.st_rdev
        if stat.S_ISCHR(file.stat.st_mode) and not file.flags & os.O_PATH:
            number = os.major(device), os.minor(device)
            if number not in _MEMORY_DEVICES:
                if take(file, ctx):
                    return
                what = f"{file}: the state of character device {number[0]}:{number[1]} can't be carried over"
                ctx.problems.add(what, file.task.pid, "close it before the dump")
        refuse_path(str(file), target, file.task, ctx)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        pos = _NO_SEEK if file.stat.st_rdev == _KMSG else file.fdinfo.pos & _NO_SEEK
        return describe_path(ctx, target_of(file), file.id, file.flags, pos)

    def finish_dump(self, ctx: DumpContext) -> None:
        ctx.part(DumpedRemaps).write()

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        remaps = ctx.part(RestoredRemaps)
        remaps.check()
        if entry.id in remaps:
            return
        name = get_text(entry.name)
        if is_inherited(ctx, *inherit_keys(entry)):
            return
        if entry.ext:
            ctx.problems.add(f"{name}: this file is external", remedy=f"pass it by --inherit-fd fd[N]:{name}")
            return
        why = problem_of(name)
        if why:
            ctx.problems.add(f"file {name!r}: its name {why}", remedy="the image is damaged")
            return
        process = _PROC_PID.match(name)
        if process and int(process[1]) in remaps.dead_pids | {task.pid for task in ctx.tasks}:
            return
        _compare(entry, name, ctx)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = open_entry(entry, entry.flags, ctx)
        if not is_inherited(ctx, *inherit_keys(entry)):
            position_on(fd, entry)
        return fd

    def open_mapped(self, entry: Message, mode: int, ctx: RestoreContext) -> int:
        return open_entry(entry, mode, ctx)


REGULAR = RegularFile()


# Dump


def target_of(file: OpenFile) -> Target:
    """The file of a description."""
    return Target(file.copy, file.stat, file.link, file.fdinfo.mnt_id)


def external_key(target: Target) -> str:
    """By what key --external and --inherit-fd call a file."""
    return f"file[{target.mnt_id:x}:{target.stat.st_ino:x}]"


def refuse_path(what: str, target: Target, task: Task, ctx: DumpContext) -> None:
    """Add to the problems why a file can't be found again by its path, if so."""
    problem = ctx.part(DumpedRemaps).problem(target)
    if problem is not None:
        ctx.problems.add(f"{what}: {problem[0]}", task.pid, problem[1])


def describe_path(ctx: DumpContext, target: Target, file_id: int, flags: int = 0, pos: int = 0) -> Message:
    """A reg_file_entry, and what the restore of a deleted file needs beside it. `fown` is empty."""
    from engine.images.schema import message

    entry = message("reg_file_entry")(id=file_id, flags=flags, pos=pos)
    fown.clear(entry.fown)
    key = external_key(target)
    if is_external(ctx, key):
        entry.ext = True
        entry.name = key
        return entry
    remaps = ctx.part(DumpedRemaps)
    place = remaps.place(target)
    set_text(entry, "name", place.name)
    entry.mode = target.stat.st_mode
    # A log file may have grown by the time of the restore.
    log_flags = os.O_ACCMODE | os.O_APPEND
    if stat.S_ISREG(target.stat.st_mode) and flags & log_flags != os.O_WRONLY | os.O_APPEND:
        entry.size = target.stat.st_size
        if remaps.file_system(target.mnt_id) not in _ACTS_ON_READ:
            entry.build_id.extend(build_ids.words(target.fd, target.stat, ctx.part(DumpedLocks).leased))
    remaps.note(file_id, target, place)
    return entry


class _MappedFiles:
    """Entries of files without a descriptor, by what they stand for."""

    def __init__(self, _: DumpContext) -> None:
        self.ids: dict[tuple[int, int, int, str], int] = {}


def _mapped_target(fd: int, link: str) -> Target:
    return Target(fd, os.fstat(fd), link, mount_id(fd))


def refuse_mapped(ctx: DumpContext, task: Task, fd: int, link: str) -> None:
    """Add to the problems why the file of mapped_file_id() can't be found again, if so."""
    refuse_path(_MAPPED, _mapped_target(fd, link), task, ctx)


def mapped_file_id(ctx: DumpContext, task: Task, fd: int, link: str) -> int:
    """The number in files.img of a file that is in use without a descriptor: an executable, a mapping, a directory.

    fd    a descriptor of the engine for it, O_PATH will do
    link  text of the link in /proc it was opened by
    What can't be found again on restore goes to ctx.problems.
    """
    target = _mapped_target(fd, link)
    ids = ctx.part(_MappedFiles).ids
    key = (target.stat.st_dev, target.stat.st_ino, target.mnt_id, link)
    if key not in ids:
        ids[key] = ctx.new_file_id()
        refuse_path(_MAPPED, target, task, ctx)
        try:
            ctx.add_entry(REGULAR, describe_path(ctx, target, ids[key]))
        except Unreachable:
            pass  # stands among the problems
    return ids[key]


# Restore


def inherit_keys(entry: Message) -> tuple[str, ...]:
    """By what keys --inherit-fd calls the file of an entry."""
    name = get_text(entry.name)
    return (name,) if entry.ext else (name.lstrip("/"),)


def _compare(entry: Message, name: str, ctx: RestoreContext) -> None:
    """Add to the problems what is not as it was at the dump."""
    try:
        info = stat_name(name)
    except OSError as error:
        ctx.problems.add(f"{name}: {error.strerror}", remedy="put the file back as it was at the dump")
        return
    remedy = "put the file back as it was at the dump"
    if entry.HasField("mode") and stat.S_IFMT(info.st_mode) != stat.S_IFMT(entry.mode):
        kinds = stat.filemode(info.st_mode)[0], stat.filemode(entry.mode)[0]
        ctx.problems.add(f"{name}: is a file of type {kinds[0]}, was of type {kinds[1]}", remedy=remedy)
    elif entry.HasField("mode") and info.st_mode != entry.mode and not ctx.opts.skip_file_rwx_check:
        modes = stat.filemode(info.st_mode), stat.filemode(entry.mode)
        ctx.problems.add(f"{name}: has mode {modes[0]}, had {modes[1]}", remedy="--skip-file-rwx-check accepts it")
    elif entry.HasField("size") and info.st_size != entry.size:
        ctx.problems.add(f"{name}: has {info.st_size} bytes, had {entry.size}", remedy=remedy)
    elif entry.build_id and ctx.opts.file_validation == "buildid":
        fd = open_name(name, os.O_PATH)
        try:
            now = build_ids.words(fd, info)
        finally:
            os.close(fd)
        if now and now != list(entry.build_id):
            ctx.problems.add(f"{name}: is another build of the program", remedy=remedy)


def open_entry(entry: Message, flags: int, ctx: RestoreContext) -> int:
    """A new description of an entry's file with these open flags, at its beginning."""
    name = get_text(entry.name)
    flags &= ~_OPEN_ONCE
    remaps = ctx.part(RestoredRemaps)
    # O_ASYNC in open(2) would set the flag without its effect. O_NONBLOCK: no lease of a third party shall stop us.
    how = flags & ~O_ASYNC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        if entry.id in remaps:
            fd = remaps.open(entry.id, how)
        elif (given := inherited(ctx, *inherit_keys(entry))) is not None:
            return given
        else:
            fd = open_name(name, without_tmpfile(how))
        if not flags & os.O_PATH:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & SETTABLE)
    except OSError as error:
        raise CrError(f"{name}: can't be opened as it was: {error.strerror}") from error
    return fd


def position_on(fd: int, entry: Message) -> None:
    """Set the offset of a new description."""
    if entry.pos in (0, _NO_SEEK) or entry.flags & os.O_PATH:
        return
    try:
        os.lseek(fd, entry.pos - (1 << 64) if entry.pos >> 63 else entry.pos, os.SEEK_SET)
    except OSError as error:
        raise CrError(f"{get_text(entry.name)}: can't be positioned at {entry.pos}: {error.strerror}") from error
