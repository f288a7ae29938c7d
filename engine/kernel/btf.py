"""Where the running kernel keeps what in its structures: BTF, /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF).

See Documentation/bpf/btf.rst: a header, then the types, each a record whose length follows from its kind, then the
strings. Types are numbered by their order, from 1.
"""

from __future__ import annotations

import struct
from array import array
from functools import cache

_PATH = "/sys/kernel/btf/vmlinux"
_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_STRUCT, _UNION = 4, 5
_STANDS_FOR_ANOTHER = (8, 9, 10, 11, 18)
"""typedef, volatile, const, restrict, type tag."""
_TAIL = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes behind the records of integers, arrays, variables, declaration tags."""
_TAIL_PER_ITEM = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""The same for each member, enumerator, parameter, variable of a section."""


class Btf:
    """The structures of the running kernel. Raises OSError when it does not tell them."""

    def __init__(self) -> None:
        with open(_PATH, "rb") as file:
            self._data = file.read()
        magic, _, _, header, types, types_size, strings, _ = _HEADER.unpack_from(self._data)
        if magic != _MAGIC:
            raise OSError(0, f"{_PATH} is no BTF of this machine")
        self._strings = header + strings
        self._types = array("I", [0])
        self._structs: dict[int, int] = {}
        self._offsets: dict[tuple[str, ...], int] = {}
        self._sizes: dict[str, int] = {}
        self._index(header + types, header + types + types_size)

    def _index(self, start: int, end: int) -> None:
        """Find where each type begins."""
        data, unpack = self._data, _TYPE.unpack_from
        while start < end:
            name, info, _ = unpack(data, start)
            kind = info >> 24 & 0x1F
            self._types.append(start)
            if kind == _STRUCT:
                self._structs.setdefault(name, start)
            start += _TYPE.size + _TAIL.get(kind, 0) + _TAIL_PER_ITEM.get(kind, 0) * (info & 0xFFFF)

    def _struct(self, name: str) -> int:
        found = self._data.find(b"\0" + name.encode() + b"\0", self._strings)
        place = self._structs.get(found + 1 - self._strings)
        if found < 0 or place is None:
            raise OSError(0, f"this kernel has no struct {name}")
        return place

    def size(self, name: str) -> int:
        """Bytes of a structure."""
        if name not in self._sizes:
            self._sizes[name] = _TYPE.unpack_from(self._data, self._struct(name))[2]
        return self._sizes[name]

    def offset(self, name: str, *path: str) -> int:
        """Where in a structure a member is, or a member of that member, and so on. Raises OSError if there is none."""
        key = (name, *path)
        if key not in self._offsets:
            self._offsets[key] = self._find(name, path)
        return self._offsets[key]

    def _find(self, name: str, path: tuple[str, ...]) -> int:
        place, total = self._struct(name), 0
        for member in path:
            found = self._member(place, member)
            if found is None:
                raise OSError(0, f"this kernel has no {member} in struct {name}")
            total += found[0]
            place = found[1]
        return total

    def _member(self, place: int, name: str) -> tuple[int, int] | None:
        """(bytes from the start, where its type is) of a member, which may be in an anonymous struct or union."""
        _, info, _ = _TYPE.unpack_from(self._data, place)
        if info >> 24 & 0x1F not in (_STRUCT, _UNION):
            return None
        for number in range(info & 0xFFFF):
            at = place + _TYPE.size + number * _MEMBER.size
            name_at, kind, bits = _MEMBER.unpack_from(self._data, at)
            first = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            if self._is_called(name_at, name):
                return first, self._type(kind)
            if not name_at and (inside := self._member(self._type(kind), name)) is not None:
                return first + inside[0], inside[1]
        return None

    def _is_called(self, name_at: int, name: str) -> bool:
        return self._data.startswith(name.encode() + b"\0", self._strings + name_at)

    def _type(self, number: int) -> int:
        """Where a type begins, typedefs and qualifiers taken off."""
        while True:
            place = self._types[number]
            _, info, number = _TYPE.unpack_from(self._data, place)
            if info >> 24 & 0x1F not in _STANDS_FOR_ANOTHER:
                return place


@cache
def btf() -> Btf:
    """The one of the running kernel, read once: it takes some 100 ms."""
    return Btf()
