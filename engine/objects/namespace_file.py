"""Open namespaces: descriptors of /proc/PID/ns/NAME, or what is bound to one (namespaces(7)).

Only those that the engine is in too: they are there on restore as they were.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from engine.objects.base import FileKind

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_LINK = re.compile(r"([a-z]+):\[\d+\]$")
_NAMESPACES = ("pid", "net", "ipc", "uts", "time", "mnt", "user", "cgroup")
"""In the order of their numbers in images: those of the engine count from 1."""
_CLONE_FLAGS = {
    "pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000,
    "time": 0x00000080, "mnt": 0x00020000, "user": 0x10000000, "cgroup": 0x02000000,
}  # fmt: skip


def _name(file: OpenFile) -> str:
    """"net" for a descriptor of a network namespace, "" for one of no namespace."""
    match = _LINK.match(file.link)
    return match[1] if match and match[1] in _NAMESPACES else ""


class NamespaceFile(FileKind):
    """NS."""

    type = 14
    field = "nsf"
    has_fown = False

    def recognise(self, file: OpenFile) -> bool:
        return bool(_name(file))

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        name = _name(file)
        own = os.stat(f"/proc/self/ns/{name}")
        if (own.st_dev, own.st_ino) != (file.stat.st_dev, file.stat.st_ino):
            what = f"{file}: is a {name} namespace that is not the engine's own"
            ctx.problems.add(what, file.task.pid, "close it before the dump")

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        name = _name(file)
        return message("ns_file_entry")(
            id=file.id, ns_id=_NAMESPACES.index(name) + 1, ns_cflag=_CLONE_FLAGS[name], flags=file.flags
        )

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        name = self._name_of(entry)
        if name is None or entry.ns_id != _NAMESPACES.index(name) + 1:
            ctx.problems.add(f"files.img: file {entry.id} is of a namespace that is not restored here")

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        name = self._name_of(entry)
        return os.open(f"/proc/self/ns/{name}", os.O_RDONLY | entry.flags & os.O_NONBLOCK | os.O_CLOEXEC)

    @staticmethod
    def _name_of(entry: Message) -> str | None:
        return next((name for name, flag in _CLONE_FLAGS.items() if flag == entry.ns_cflag), None)
