"""BPF maps, held by descriptors only: arrays and hashes, frozen and not, one opened twice, one for reading only.

states: misc/bpf-maps
flavours: h
needs: root, cap CAP_BPF
"""

import ctypes
import os
import platform
import struct

from zdtm.lib.libc import call
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import check, equal, ready, run

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM = 0, 1, 2, 3
MAP_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD, MAP_FREEZE = 14, 15, 22
TYPE_HASH, TYPE_ARRAY = 1, 2
NO_PREALLOC, NUMA_NODE, RDONLY, RDONLY_PROG = 1, 4, 8, 128
ENTRIES = 10

CREATE = struct.Struct("=IIIIIII16s")
"""map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node, map_name"""
ELEMENT = struct.Struct("=I4xQQQ")
"""map_fd, key, value, flags"""
INFO = struct.Struct("=IIQ")
"""bpf_fd, info_len, info"""
MAP_INFO = struct.Struct("=IIIIII16s")
"""type, id, key_size, value_size, max_entries, map_flags, name"""

SHOWN = ("map_type", "key_size", "value_size", "max_entries", "map_flags", "map_extra", "frozen")
"""Fields of fdinfo"""


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2)"""
    return call("syscall", SYS_BPF, command, ctypes.create_string_buffer(attributes, 128), 128)


def make(kind: int, flags: int, name: bytes, *, frozen: bool) -> int:
    fd = bpf(MAP_CREATE, CREATE.pack(kind, 4, 8, ENTRIES, flags, 0, 0, name))
    for number in range(ENTRIES):
        put(fd, number, 1000 * kind + number)
    if frozen:
        bpf(MAP_FREEZE, struct.pack("=I", fd))
    return fd


def drop(fd: int, key: int) -> None:
    keys = ctypes.create_string_buffer(struct.pack("=I", key))
    bpf(MAP_DELETE_ELEM, ELEMENT.pack(fd, ctypes.addressof(keys), 0, 0))


def open_again(fd: int, flags: int) -> int:
    """A further descriptor of the same map."""
    return bpf(MAP_GET_FD_BY_ID, struct.pack("=III", int(fdinfo(fd)["map_id"]), 0, flags))


def put(fd: int, key: int, value: int) -> None:
    keys = ctypes.create_string_buffer(struct.pack("=I", key))
    values = ctypes.create_string_buffer(struct.pack("=Q", value))
    bpf(MAP_UPDATE_ELEM, ELEMENT.pack(fd, ctypes.addressof(keys), ctypes.addressof(values), 0))


def get(fd: int, key: int) -> int:
    keys, values = ctypes.create_string_buffer(struct.pack("=I", key)), ctypes.create_string_buffer(8)
    bpf(MAP_LOOKUP_ELEM, ELEMENT.pack(fd, ctypes.addressof(keys), ctypes.addressof(values), 0))
    return int.from_bytes(values.raw, "little")


def describe(fd: int) -> dict[str, object]:
    """All but the map's id, which the kernel chooses."""
    info = ctypes.create_string_buffer(MAP_INFO.size)
    bpf(OBJ_GET_INFO_BY_FD, INFO.pack(fd, MAP_INFO.size, ctypes.addressof(info)))
    kind, _, *rest = MAP_INFO.unpack(info.raw)
    shown = {key: value for key, value in fdinfo(fd).items() if key in SHOWN}
    return {"info": (kind, *rest), "fdinfo": shown, "close-on-exec": not os.get_inheritable(fd)}


def refused(fd: int, key: int) -> bool:
    """Whether the map can't be written to."""
    try:
        put(fd, key, 7)
    except PermissionError:
        return True
    return False


def main() -> None:
    frozen = {
        TYPE_ARRAY: make(TYPE_ARRAY, NUMA_NODE, b"an_array", frozen=True),
        TYPE_HASH: make(TYPE_HASH, NO_PREALLOC, b"a_hash", frozen=True),
    }
    hash_map = make(TYPE_HASH, RDONLY_PROG, b"", frozen=False)
    array = make(TYPE_ARRAY, 0, b"fifteen_bytes__", frozen=False)
    empty = bpf(MAP_CREATE, CREATE.pack(TYPE_HASH, 12, 5, 3, 0, 0, 0, b"empty"))
    drop(hash_map, 4)
    again, reader = open_again(array, 0), open_again(array, RDONLY)
    every = [*frozen.values(), hash_map, array, empty, again, reader]
    before = [describe(fd) for fd in every]
    ready()
    equal([describe(fd) for fd in every], before, "the maps")
    for kind, fd in frozen.items():
        for number in range(ENTRIES):
            equal(get(fd, number), 1000 * kind + number, f"entry {number} of the map of type {kind}")
        check(refused(fd, 0), f"the frozen map of type {kind} could be written to")
    for number in range(ENTRIES):
        if number != 4:
            equal(get(hash_map, number), 1000 * TYPE_HASH + number, f"entry {number} of the hash")
    try:
        check(get(hash_map, 4) is None, "the deleted entry is there")
    except FileNotFoundError:
        pass
    put(hash_map, 4, 44)
    put(again, 2, 22)
    equal((get(hash_map, 4), get(array, 2), get(reader, 2)), (44, 22, 22), "what was written after the restore")
    check(refused(reader, 2), "the map could be written to by the descriptor for reading")


if __name__ == "__main__":
    run(main)
