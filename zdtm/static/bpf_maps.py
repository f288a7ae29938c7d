"""BPF maps, held by descriptors only, are refused by name, and stay as they were: an array and a hash, both frozen.

states: misc/bpf-maps
flavours: h
needs: root, cap CAP_BPF
expect: refuse (?i)a BPF map
"""

import ctypes
import os
import platform
import struct

from zdtm.lib.libc import call
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import check, equal, ready, run

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, OBJ_GET_INFO_BY_FD, MAP_FREEZE = 0, 1, 2, 15, 22
TYPE_HASH, TYPE_ARRAY = 1, 2
NO_PREALLOC, NUMA_NODE = 1, 4
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


def make(kind: int, flags: int, name: bytes) -> int:
    fd = bpf(MAP_CREATE, CREATE.pack(kind, 4, 8, ENTRIES, flags, 0, 0, name))
    for number in range(ENTRIES):
        put(fd, number, 1000 * kind + number)
    bpf(MAP_FREEZE, struct.pack("=I", fd))
    return fd


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


def main() -> None:
    maps = {TYPE_ARRAY: make(TYPE_ARRAY, NUMA_NODE, b"an_array"), TYPE_HASH: make(TYPE_HASH, NO_PREALLOC, b"a_hash")}
    before = {kind: describe(fd) for kind, fd in maps.items()}
    ready()
    for kind, fd in maps.items():
        equal(describe(fd), before[kind], f"map of type {kind}")
        for number in range(ENTRIES):
            equal(get(fd, number), 1000 * kind + number, f"entry {number} of the map of type {kind}")
        try:
            put(fd, 0, 0)
        except PermissionError:
            continue
        check(False, f"the frozen map of type {kind} could be written to")


if __name__ == "__main__":
    run(main)
