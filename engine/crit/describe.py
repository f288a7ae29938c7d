"""Open files and mappings in words."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from engine.crit.files import printable
from engine.crit.names import VALUES
from engine.images.text import get_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.crit.image_set import ImageSet

Message = Any

_PROT = "rwx"
_FILE = 64 | 128
_KINDS = {8: "[vdso]", 4: "[vsyscall]", 4096: "[vvar]", 32: "[heap]", 8192: "[aio]", 65536: "guard pages"}
_SHARED, _GROWS_DOWN = 1, 0x100
_SYSVIPC = 1024


def kind_of(entry: Message, images: ImageSet) -> str:
    """A word for what a file_entry is."""
    if entry.HasField("reg") and entry.reg.HasField("mode"):
        kinds = {"d": "directory", "l": "symlink", "c": "device", "b": "device", "p": "fifo", "s": "socket"}
        return kinds.get(stat.filemode(entry.reg.mode)[0], "file")
    words = {"REG": "file", "INETSK": "inet", "UNIXSK": "unix", "EVENTPOLL": "epoll", "TUNF": "tun", "NS": "namespace"}
    name = images.type_names.get(entry.type, f"type {entry.type}")
    return words.get(name, name.lower())


def file_text(entry: Message, images: ImageSet) -> str:
    """What tells a file_entry from others of its kind. No numbers that only images have."""
    for field, describe in _DESCRIBE.items():
        if entry.HasField(field):
            return printable(describe(getattr(entry, field), images))
    return ""


def file_name(file_id: int, images: ImageSet) -> str:
    """The path of a file, or what there is instead."""
    entry = images.files.get(file_id)
    return f"file {file_id}, which is missing" if entry is None else file_text(entry, images)


def _companion(file_id: int, images: ImageSet) -> str:
    """The path of a fifo or terminal, which stands in an entry of its own."""
    entry = images.files.get(file_id)
    return _regular(entry.reg, images) if entry is not None and entry.HasField("reg") else ""


def _regular(entry: Message, images: ImageSet) -> str:
    return get_text(entry.name) + (" (deleted)" if entry.id in images.deleted else "")


def _end(flags: int) -> str:
    return ("read", "write", "both")[min(flags & os.O_ACCMODE, 2)]


def _memfd(entry: Message, images: ImageSet) -> str:
    inode = images.memfds.get(entry.inode_id)
    return f"memfd:{get_text(inode.name)}" if inode is not None else f"inode {entry.inode_id}, which is missing"


def _terminal(entry: Message, images: ImageSet) -> str:
    if entry.HasField("regf_id"):
        return _companion(entry.regf_id, images)
    info = images.terminals.get(entry.tty_info_id)
    return f"terminal {info.pty.index}" if info is not None and info.HasField("pty") else "terminal"


def socket_name(entry: Message) -> str:
    """The name of a unix socket; an abstract one begins with @."""
    name = bytes(entry.name)
    return os.fsdecode(b"@" + name[1:] if name.startswith(b"\0") else name.rstrip(b"\0"))


def _unix(entry: Message, images: ImageSet) -> str:
    peer = images.sockets.get(entry.peer)
    to = f" to {socket_name(peer) or images.label(peer.ino)}" if peer is not None else ""
    to = to or (" to nobody here" if entry.peer else "")
    what = f"{VALUES['sk.type'].get(entry.type, entry.type)} {VALUES['sk.state'].get(entry.state, entry.state)}"
    return f"{what} {socket_name(entry) or images.label(entry.ino)}{to}"


def inet_address(words: Any, port: int) -> str:
    """ "127.0.0.1:80"."""
    import ipaddress

    packed = b"".join(word.to_bytes(4, "little") for word in words)
    if len(packed) not in (4, 16):
        return f"*:{port}"
    address = ipaddress.ip_address(packed)
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _inet(entry: Message, _: ImageSet) -> str:
    proto = VALUES["sk.proto"].get(entry.proto, f"protocol {entry.proto}")
    state = VALUES["sk.state"].get(entry.state, entry.state)
    to = f" to {inet_address(entry.dst_addr, entry.dst_port)}" if entry.dst_port else ""
    return f"{proto} {state} {inet_address(entry.src_addr, entry.src_port)}{to}"


_DESCRIBE: dict[str, Callable[[Any, ImageSet], str]] = {
    "reg": _regular,
    "pipe": lambda pipe, images: f"pipe{images.label(pipe.pipe_id)} {_end(pipe.flags)}",
    "fifo": lambda fifo, images: _companion(fifo.regf_id, images),
    "efd": lambda efd, _: f"counter {efd.counter}",
    "ext": lambda ext, _: f"by plugin {printable(get_text(ext.plugin.name))}",
    "epfd": lambda epfd, _: "watches " + (", ".join(str(tfd.tfd) for tfd in epfd.tfd) or "nothing"),
    "sgfd": lambda sgfd, _: f"signals {sgfd.sigmask:#x}",
    "tfd": lambda tfd, _: f"clock {tfd.clockid}",
    "ify": lambda ify, _: f"{len(ify.wd)} watches",
    "ffy": lambda ffy, _: f"{len(ffy.mark)} marks",
    "nsf": lambda nsf, _: f"namespace {nsf.ns_id}",
    "memfd": _memfd,
    "pidfd": lambda pidfd, _: f"task {pidfd.nspid}" if pidfd.nspid > 0 else "a dead task",
    "tty": _terminal,
    "usk": _unix,
    "isk": _inet,
    "nlsk": lambda nlsk, _: f"protocol {nlsk.protocol}, port {nlsk.portid}",
    "psk": lambda psk, _: f"protocol {psk.protocol:#06x}",
}


# Mappings


def protection(vma: Message) -> str:
    """ "r-xp", as in /proc/PID/maps."""
    rights = "".join(letter if vma.prot >> bit & 1 else "-" for bit, letter in enumerate(_PROT))
    return rights + ("s" if vma.flags & _SHARED else "p")


def mapping_text(vma: Message, images: ImageSet) -> str:
    """What a vma_entry maps."""
    if vma.status & _FILE:
        offset = f" + {vma.pgoff:#x}" if vma.pgoff else ""
        return file_name(vma.shmid, images) + offset
    for bit, word in _KINDS.items():
        if vma.status & bit:
            return word
    if vma.status & _SYSVIPC:
        return f"SysV shared memory {vma.shmid}"
    if vma.flags & _GROWS_DOWN:
        return "[stack]"
    return "shared anonymous" if vma.flags & _SHARED else ""
