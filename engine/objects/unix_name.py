"""What unix sockets are called: bind(2), unix(7).

A name is what the socket was given by bind(2), to the byte, and stays that for good. Whether a file of this name leads
to the socket is another matter: the file may have been renamed or deleted, the name may be relative to a directory that
the task has left, or to another root. So a dump asks the socket for its file (SIOCUNIXFILE) and looks where that is.

bind(2) makes the file, and fails where there is one. After a dump there mostly is: the file of the socket that is gone
by then. It is not taken away before there is a better one: the socket is bound in a private directory beside it, which
a thread makes its root directory for that moment, so that the name is the right one; at the very end of the restore the
new file is renamed over the old one. Clients by that name meet a dead socket or a live one at any time, and a restore
that fails before leaves everything as it was. A socket whose file had been deleted is bound in a file system that
nobody sees.
"""

from __future__ import annotations

import os
import socket
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel.detached import detached_tmpfs
from engine.kernel.own_fs import with_own_fs
from engine.kernel.sockets import bind, file_of_descriptor
from engine.kernel.unix_diag import bound_file, unix_sockets
from engine.objects.paths import DELETED, open_name, stat_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.kernel.unix_diag import UnixSocket
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

MAX_NAME = 108
_OPEN_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_INO_MASK = 0xFFFFFFFF
_STEP = "d"


def is_file_name(name: bytes) -> bool:
    """Whether a socket of this name has a file, or had one. Others are abstract, or have no name."""
    return bool(name) and name[0] != 0


def shown(name: bytes) -> str:
    """A name for messages, an abstract one as ss(8) and /proc/net/unix have it."""
    return os.fsdecode(name.removesuffix(b"\0") if is_file_name(name) else name.replace(b"\0", b"@")) or "no name"


def sockaddr(name: bytes) -> bytes:
    """The struct sockaddr_un of a name as the kernel and images have it, the NUL of a file name included."""
    return socket.AF_UNIX.to_bytes(2, "little") + name[:MAX_NAME]


# Dump


def describe(entry: Message, file: OpenFile, name: bytes) -> None:
    """Fill in the name of a socket and what there is to know of its file."""
    entry.name = name
    if not is_file_name(name):
        return
    fd = bound_file(file.copy)
    if fd is None:
        raise CrError(f"task {file.task.pid}: {file}: the kernel does not tell the file of a unix socket (Linux 4.18)")
    try:
        info = os.fstat(fd)
        place = os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    entry.file_perms.mode, entry.file_perms.uid, entry.file_perms.gid = info.st_mode, info.st_uid, info.st_gid
    entry.deleted = not _leads_to(place, info)
    address = shown(name)
    directory = _directory(file, address, place.removesuffix(DELETED) if entry.deleted else place, info)
    if not address.startswith("/"):
        set_text(entry, "name_dir", directory or os.path.dirname(place))
    if not entry.deleted and (directory is None or not _leads_to(os.path.join(directory, address), info)):
        entry.moved_to = os.fsencode(place)


def _directory(file: OpenFile, address: str, place: str, info: os.stat_result) -> str | None:
    """The directory from which the address leads to the place; None if there is none to be found."""
    if address.startswith("/"):
        return "/"
    if place.endswith("/" + address):
        return place[: -len(address) - 1] or "/"
    cwd = os.readlink(f"/proc/{file.task.proc}/cwd")
    return cwd if _leads_to(os.path.join(cwd, address), info) else None


def directory_of(row: UnixSocket, user: OpenFile) -> str | None:
    """From which directory a task that is connected to another's socket finds it by its name; empty for an abstract
    name, None when the name does not lead there any more."""
    if not is_file_name(row.name):
        return ""
    cwd = os.readlink(f"/proc/{user.task.proc}/cwd")
    try:
        info = stat_name(os.path.join(cwd, shown(row.name)))
    except OSError:
        return None
    return cwd if (info.st_dev, info.st_ino & _INO_MASK) == row.file else None


def _leads_to(name: str, info: os.stat_result) -> bool:
    try:
        return os.path.samestat(stat_name(name), info)
    except OSError:
        return False


# Restore


def place_of(entry: Message) -> str | None:
    """Where the file of a socket belongs; None when it has none, or had one that was deleted."""
    if not is_file_name(entry.name) or entry.deleted:
        return None
    if entry.HasField("moved_to"):
        return os.fsdecode(entry.moved_to)
    return os.path.join(get_text(entry.name_dir), shown(entry.name))


def check(entry: Message, ctx: RestoreContext) -> None:
    """The name must be possible, and its place free or taken by the file of a socket that nobody has any more."""
    for name, whose in (entry.name, "its name"), (entry.peer_name, "the name of its peer"):
        if len(name) > MAX_NAME + 1 or is_file_name(name) and b"\0" in name.removesuffix(b"\0"):
            what = f"unix socket (file {entry.id}): {whose} is too long, or goes on behind its end"
            ctx.problems.add(what, remedy="the image is damaged")
            return
    place = place_of(entry)
    if place is None:
        return
    what = f"unix socket {place}"
    if not place.startswith("/") or "\0" in place:
        ctx.problems.add(f"{what}: is no absolute name of a file", remedy="the image is damaged")
        return
    try:
        os.close(open_name(os.path.dirname(place), os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        ctx.problems.add(f"{what}: {os.path.dirname(place)}: {error.strerror}", remedy="make the directory")
        return
    try:
        info = stat_name(place)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode):
        ctx.problems.add(f"{what}: another file has that name", remedy="move it away")
    elif (info.st_dev, info.st_ino & _INO_MASK) in ctx.part(_BoundFiles).files:
        ctx.problems.add(f"{what}: another process has a socket of that name", remedy="end it")


class _BoundFiles:
    """The files of all sockets there are."""

    def __init__(self, _: RestoreContext) -> None:
        self.files = {sock.file for sock in unix_sockets().values()}


class Names:
    """Binds the sockets of a restore."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._nowhere = -1
        self._count = 0

    def bind(self, fd: int, entry: Message) -> None:
        """Give a socket its name, and its file if it shall have one."""
        place = place_of(entry)
        if place is None:
            self.bind_nowhere(fd, entry.name)
        else:
            self._bind_at(fd, entry, place)

    def bind_nowhere(self, fd: int, name: bytes) -> None:
        """Give a socket a name that leads nowhere, unless it is an abstract one."""
        if not is_file_name(name):
            bind(fd, sockaddr(name))
            return
        if self._nowhere < 0:
            self._nowhere = detached_tmpfs()
            self._ctx.at_end(partial(os.close, self._nowhere))
        self._count += 1
        os.mkdir(str(self._count), 0o700, dir_fd=self._nowhere)
        root = os.open(str(self._count), _OPEN_DIR, dir_fd=self._nowhere)
        try:
            os.unlink(_bind_below(root, fd, name), dir_fd=root)
        finally:
            os.close(root)

    def _bind_at(self, fd: int, entry: Message, place: str) -> None:
        """Bind in a directory of our own beside the place, and have the file renamed to it at the end."""
        directory = open_name(os.path.dirname(place), os.O_PATH | os.O_DIRECTORY)
        self._ctx.at_end(partial(os.close, directory))
        before = os.fstat(directory)
        private = f".crucible-{os.getpid()}-{entry.id}"
        os.mkdir(private, 0o700, dir_fd=directory)
        times = before.st_atime_ns, before.st_mtime_ns
        self._ctx.at_end(partial(os.utime, file_of_descriptor(directory), ns=times))
        self._ctx.at_end(partial(_remove_tree, private, directory))
        root = os.open(private, _OPEN_DIR, dir_fd=directory)
        self._ctx.at_end(partial(os.close, root))
        made = _bind_below(root, fd, entry.name)
        if entry.HasField("file_perms"):
            os.chown(made, entry.file_perms.uid, entry.file_perms.gid, dir_fd=root)
            os.chmod(made, stat.S_IMODE(entry.file_perms.mode), dir_fd=root)
        finish = partial(os.rename, made, os.path.basename(place), src_dir_fd=root, dst_dir_fd=directory)
        self._ctx.on_names(finish)


def _bind_below(root: int, fd: int, name: bytes) -> str:
    """Bind a socket with a directory as the root of its name. Gives where below that directory the file is."""
    start, directories, base = _route(shown(name))
    for path in _prefixes(start + directories):
        try:
            os.mkdir(path, 0o700, dir_fd=root)
        except FileExistsError:
            continue

    def work() -> None:
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/" + "/".join(start))
        bind(fd, sockaddr(name))

    try:
        with_own_fs(work)
    except OSError as error:
        raise CrError(f"unix socket {shown(name)}: it can't be bound: {error.strerror}") from error
    return "/".join([*_resolve(start + directories), base])


def _route(address: str) -> tuple[list[str], list[str], str]:
    """How to walk to a name: (current directory, deep enough for every "..", directories on the way, base)."""
    *directories, base = address.split("/")
    start = [] if address.startswith("/") else [_STEP] * directories.count("..")
    return start, [step for step in directories if step not in ("", ".")], base


def _prefixes(steps: list[str]) -> Iterator[str]:
    """Every directory that a walk along these steps enters, none by way of "..", in that order."""
    for count in range(1, len(steps) + 1):
        if steps[count - 1] != "..":
            yield "/".join(_resolve(steps[:count]))


def _resolve(steps: list[str]) -> list[str]:
    """The steps from the root to where a walk ends. ".." in the root leads to the root."""
    place: list[str] = []
    for step in steps:
        if step == "..":
            place = place[:-1]
        else:
            place.append(step)
    return place


def _remove_tree(name: str, directory: int) -> None:
    import shutil

    shutil.rmtree(name, dir_fd=directory)
