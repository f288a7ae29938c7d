"""bpf(2): the call itself, and what can be done with maps."""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

from engine.kernel.libc import NR, syscall

MAP_CREATE, MAP_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD, MAP_FREEZE, MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH = 0, 14, 15, 22, 24, 26
_CREATE = struct.Struct("=7I16s5IQ")
"""type, key size, value size, entries, flags, inner_map_fd, numa_node, name, ifindex, four for BTF, map_extra"""
_INFO_REQUEST = struct.Struct("=IIQ")
_INFO = struct.Struct("=6I16sIIQQIIIIQ")
_BATCH = struct.Struct("=QQQQIIQQ")
_COUNT_OFFSET = 32


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """(result, the attributes as the kernel leaves them)."""
    import ctypes

    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return syscall(NR["bpf"], command, buffer, len(attributes)), buffer.raw


class MapInfo(NamedTuple):
    """What the kernel tells of a map. ifindex: the device it is on, 0 for none; btf_id: of its type, 0 for none."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: bytes
    ifindex: int
    btf_id: int
    extra: int


def map_info(fd: int) -> MapInfo:
    """Raises OSError. Fields that an older kernel does not have are 0."""
    import ctypes

    answer = ctypes.create_string_buffer(_INFO.size)
    bpf(OBJ_GET_INFO_BY_FD, _INFO_REQUEST.pack(fd, _INFO.size, ctypes.addressof(answer)))
    kind, number, keys, values, entries, flags, name, ifindex, _, _, _, btf_id, *_, extra = _INFO.unpack(answer.raw)
    return MapInfo(kind, number, keys, values, entries, flags, name.rstrip(b"\0"), ifindex, btf_id, extra)


def map_create(info: MapInfo) -> int:
    """A new map for reading and writing; its id is the kernel's choice. Raises OSError."""
    sizes = info.type, info.key_size, info.value_size, info.max_entries, info.flags
    return bpf(MAP_CREATE, _CREATE.pack(*sizes, 0, 0, info.name, 0, 0, 0, 0, 0, info.extra))[0]


def map_open(number: int, flags: int = 0) -> int:
    """A further descriptor of the map with this id. flags: BPF_F_RDONLY, BPF_F_WRONLY. Raises OSError."""
    return bpf(MAP_GET_FD_BY_ID, struct.pack("=III", number, 0, flags))[0]


def map_freeze(fd: int) -> None:
    """Nobody can write to the map by bpf(2) any more."""
    bpf(MAP_FREEZE, struct.pack("=I", fd))


def map_read(fd: int, info: MapInfo) -> tuple[int, bytes, bytes]:
    """(number of elements, their keys, their values) of an array or a hash. Linux 5.6."""
    import ctypes

    keys = ctypes.create_string_buffer(info.max_entries * info.key_size)
    values = ctypes.create_string_buffer(info.max_entries * info.value_size)
    position = ctypes.create_string_buffer(max(info.key_size, 8))
    where = ctypes.addressof(position), ctypes.addressof(keys), ctypes.addressof(values)
    request = _BATCH.pack(0, *where, info.max_entries, fd, 0, 0)
    buffer = ctypes.create_string_buffer(request, len(request))
    try:
        syscall(NR["bpf"], MAP_LOOKUP_BATCH, buffer, len(request))
    except OSError as end:
        # So it says that there is nothing more (kernel/bpf/syscall.c, generic_map_lookup_batch).
        if end.errno != errno.ENOENT:
            raise
    (count,) = struct.unpack_from("=I", buffer.raw, _COUNT_OFFSET)
    return count, keys.raw[: count * info.key_size], values.raw[: count * info.value_size]


def map_write(fd: int, count: int, keys: bytes, values: bytes) -> None:
    """Put so many elements into a map. Raises OSError."""
    import ctypes

    if not count:
        return
    key_buffer = ctypes.create_string_buffer(keys, len(keys))
    value_buffer = ctypes.create_string_buffer(values, len(values))
    where = ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)
    bpf(MAP_UPDATE_BATCH, _BATCH.pack(0, 0, *where, count, fd, 0, 0))
