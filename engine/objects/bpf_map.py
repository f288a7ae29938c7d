"""BPF maps: bpf(2), arrays and hashes of plain values.

A map is an object of its own, known by an id that the kernel chooses; several open file descriptions may lead to it,
some of them for reading or writing only. So each map is made once and opened as often as needed. A map that was frozen
is frozen when its elements are there again. What is stored is the map's content, not the programs of the kernel which
may use it as well: those keep the old one.

The NUMA node of a map with BPF_F_NUMA_NODE nobody can ask for; it comes back on node 0.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel import bpf
from engine.kernel.proc_fdinfo import fdinfo_fields
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_HASH, _ARRAY = 1, 2
_NAMES = {
    3: "program array", 4: "perf event array", 5: "per-CPU hash", 6: "per-CPU array", 7: "stack trace",
    8: "cgroup array",
    9: "LRU hash", 10: "per-CPU LRU hash", 11: "longest prefix match trie", 12: "array of maps", 13: "hash of maps",
    14: "device map", 15: "socket map", 16: "CPU map", 17: "XDP socket map", 18: "socket hash", 22: "queue",
    23: "stack", 24: "socket storage", 26: "structure of operations", 27: "ring buffer", 28: "inode storage",
    29: "task storage", 30: "bloom filter", 31: "user ring buffer", 32: "cgroup storage", 33: "arena",
}  # fmt: skip
_F_RDONLY, _F_WRONLY = 1 << 3, 1 << 4
_OPEN_FLAGS = {os.O_RDONLY: _F_RDONLY, os.O_WRONLY: _F_WRONLY, os.O_RDWR: 0}
_NO_PREALLOC, _NUMA_NODE, _ZERO_SEED, _MMAPABLE, _INNER_MAP = 1 << 0, 1 << 2, 1 << 6, 1 << 10, 1 << 12
_RDONLY_PROG, _WRONLY_PROG = 1 << 7, 1 << 8
_FLAGS = _NO_PREALLOC | _NUMA_NODE | _ZERO_SEED | _MMAPABLE | _INNER_MAP | _RDONLY_PROG | _WRONLY_PROG
_CLOSE = "close it before the dump"
_NAME_LENGTH = 15


class BpfMap(FileKind):
    """BPFMAP."""

    type = 19
    field = "bpf"
    links = ("anon_inode:bpf-map",)

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        try:
            info = bpf.map_info(file.copy)
        except OSError as error:
            ctx.problems.add(f"{file}: a BPF map that can't be asked: {error.strerror}", file.task.pid, _CLOSE)
            return
        if info.type not in (_HASH, _ARRAY):
            what = f"a BPF map of the kind {_NAMES.get(info.type, f'number {info.type}')}"
        elif info.ifindex:
            what = "a BPF map on a network device"
        elif info.btf_id:
            what = "a BPF map with type information (BTF), which images can't hold,"
        elif info.flags & ~_FLAGS:
            what = f"a BPF map with flags {info.flags:#x}"
        else:
            return
        ctx.problems.add(f"{file}: {what} can't be dumped", file.task.pid, _CLOSE)

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        info, shown = bpf.map_info(file.copy), fdinfo_fields(file.fdinfo)
        entry = message("bpfmap_file_entry")(
            id=file.id, flags=file.flags, pos=file.fdinfo.pos, map_type=info.type, key_size=info.key_size,
            value_size=info.value_size, map_id=info.id, max_entries=info.max_entries, map_flags=info.flags,
            memlock=int(shown["memlock"]), frozen=shown["frozen"] == "1", ifindex=0, map_extra=info.extra,
        )  # fmt: skip
        set_text(entry, "map_name", os.fsdecode(info.name))
        return entry

    def finish_dump(self, ctx: DumpContext) -> None:
        """bpfmap-data.img: every map once."""
        from engine.images.schema import message

        maps = {bpf.map_info(file.copy).id: file for file in ctx.files if isinstance(file.kind, BpfMap)}
        if not maps:
            return
        with ctx.images.writer("BPFMAP_DATA") as image:
            for number, file in maps.items():
                count, keys, values = _content(file, number)
                image.put(
                    message("bpfmap_data_entry")(
                        map_id=number, keys_bytes=len(keys), values_bytes=len(values), count=count
                    )
                )
                image.put_payload(keys + values)

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        where = f"BPF map (file {entry.id})"
        if entry.map_type not in (_HASH, _ARRAY) or entry.map_flags & ~_FLAGS or entry.ifindex:
            what = f"of type {entry.map_type} with flags {entry.map_flags:#x}, which this engine does not restore"
            ctx.problems.add(f"{where}: {what}")
        elif len(os.fsencode(get_text(entry.map_name))) > _NAME_LENGTH or entry.flags & os.O_ACCMODE not in _OPEN_FLAGS:
            ctx.problems.add(f"{where}: has a name or an access mode that no map has", remedy="the image is damaged")
        else:
            ctx.part(_RestoredMaps).check(entry, where)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = ctx.part(_RestoredMaps).open(entry)
        set_flags(fd, entry.flags)
        return fd


def _content(file: OpenFile, number: int) -> tuple[int, bytes, bytes]:
    """The elements, by a descriptor of our own: the task's may be for writing only."""
    try:
        fd = bpf.map_open(number)
        try:
            return bpf.map_read(fd, bpf.map_info(fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise CrError(f"task {file.task.pid}: {file}: the BPF map can't be read: {error.strerror}") from error


class _RestoredMaps:
    """The maps made so far, by the id in the images, and what they hold."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._problems = ctx.problems
        self._data: dict[int, tuple[Message, bytes]] = {}
        self._made: dict[int, int] = {}
        if ctx.images.exists("BPFMAP_DATA"):
            with ctx.images.reader("BPFMAP_DATA") as reader:
                for entry in reader:
                    self._data[entry.map_id] = entry, reader.payload()
        ctx.at_end(self._close)

    def check(self, entry: Message, where: str) -> None:
        """The content must be there and be that of such a map."""
        if entry.map_id not in self._data:
            self._problems.add(f"{where}: bpfmap-data.img lacks its elements", remedy="the image is damaged")
            return
        data, _ = self._data[entry.map_id]
        sizes = data.count * entry.key_size, data.count * entry.value_size
        if data.count > entry.max_entries or sizes != (data.keys_bytes, data.values_bytes):
            self._problems.add(f"{where}: its elements are not those of such a map", remedy="the image is damaged")

    def open(self, entry: Message) -> int:
        """A descriptor of the map that an entry is of."""
        try:
            if entry.map_id not in self._made:
                self._made[entry.map_id] = self._make(entry)
            number = bpf.map_info(self._made[entry.map_id]).id
            return bpf.map_open(number, _OPEN_FLAGS[entry.flags & os.O_ACCMODE])
        except OSError as error:
            denied = error.errno == errno.EPERM
            remedy = "give the engine CAP_BPF and CAP_SYS_ADMIN" if denied else "is the image whole?"
            raise CrError(f"BPF map (file {entry.id}): can't be made: {error.strerror} ({remedy})") from error

    def _make(self, entry: Message) -> int:
        data, content = self._data[entry.map_id]
        name = os.fsencode(get_text(entry.map_name))
        sizes = entry.key_size, entry.value_size, entry.max_entries
        fd = bpf.map_create(bpf.MapInfo(entry.map_type, 0, *sizes, entry.map_flags, name, 0, 0, entry.map_extra))
        try:
            bpf.map_write(fd, data.count, content[: data.keys_bytes], content[data.keys_bytes :])
            if entry.frozen:
                bpf.map_freeze(fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _close(self) -> None:
        for fd in self._made.values():
            os.close(fd)
