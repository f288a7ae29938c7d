"""The dynamic symbols of an ELF image in memory, which is how a vDSO tells where its functions are (vdso(7), elf(5)).

The image may come from a file that anybody has written: every number in it is checked before it is followed, and
ValueError says what does not hold.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MACHINES = {"x86_64": 62, "aarch64": 183}
"""e_machine by the name uname(2) has for the architecture."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<QQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_MAGIC_64_LITTLE = b"\x7fELF\x02\x01\x01"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_MAX_SYMBOLS = 4096


class _Segment(NamedTuple):
    """A program header: what it describes lies at `offset` in the image and at address `vaddr` by the linker's plan."""

    kind: int
    offset: int
    vaddr: int
    size: int


def dynamic_symbols(image: bytes, machine: str) -> dict[str, int]:
    """Name to offset in the image, of every symbol that is defined there and has an address.

    image    as the kernel maps it: offsets in memory are those of the file
    machine  "x86_64" or "aarch64"; an image for another one raises ValueError, as does a damaged one
    """
    segments = _segments(image, machine)
    load = next((segment for segment in segments if segment.kind == _PT_LOAD), None)
    dynamic = next((segment for segment in segments if segment.kind == _PT_DYNAMIC), None)
    if load is None or dynamic is None:
        raise ValueError("the ELF image has no loaded or no dynamic segment")
    base = load.vaddr - load.offset
    tags = _dynamic_section(image, dynamic)
    try:
        table = tags[_DT_SYMTAB] - base
        strings = _slice(image, tags[_DT_STRTAB] - base, tags[_DT_STRSZ])
    except KeyError as tag:
        raise ValueError(f"the ELF image's dynamic section lacks tag {tag}") from None
    symbols = {}
    for index in range(1, _symbol_count(image, tags, base)):
        name_at, _, _, section, value, _ = _unpack(_SYMBOL, image, table + index * _SYMBOL.size)
        if section not in (_SHN_UNDEF, _SHN_ABS):
            symbols[_name(strings, name_at)] = _offset(image, value - base)
    return symbols


def _segments(image: bytes, machine: str) -> list[_Segment]:
    if not image.startswith(_MAGIC_64_LITTLE):
        raise ValueError("not a 64-bit little-endian ELF image")
    header = _unpack(_HEADER, image, 0)
    e_machine, table, entry_size, count = header[2], header[5], header[9], header[10]
    if e_machine != MACHINES[machine]:
        raise ValueError(f"the ELF image is for machine {e_machine}, not for {machine}")
    if entry_size != _PROGRAM_HEADER.size:
        raise ValueError(f"the ELF image has program headers of {entry_size} bytes")
    segments = []
    for index in range(count):
        kind, _, offset, vaddr, _, size, _, _ = _unpack(_PROGRAM_HEADER, image, table + index * entry_size)
        segments.append(_Segment(kind, offset, vaddr, size))
    return segments


def _dynamic_section(image: bytes, segment: _Segment) -> dict[int, int]:
    tags: dict[int, int] = {}
    for tag, value in _DYNAMIC.iter_unpack(_slice(image, segment.offset, segment.size // 16 * 16)):
        if tag == 0:
            break
        tags[tag] = value
    return tags


def _symbol_count(image: bytes, tags: dict[int, int], base: int) -> int:
    """The symbol table has no length of its own: the hash table that goes with it tells."""
    if _DT_HASH in tags:
        count = _unpack(struct.Struct("<II"), image, tags[_DT_HASH] - base)[1]
    elif _DT_GNU_HASH in tags:
        count = _gnu_hash_count(image, tags[_DT_GNU_HASH] - base)
    else:
        raise ValueError("the ELF image has no hash table of its symbols")
    if count > _MAX_SYMBOLS:
        raise ValueError(f"the ELF image claims to have {count} dynamic symbols")
    return count


def _gnu_hash_count(image: bytes, at: int) -> int:
    """Buckets hold the first symbol of each chain; the lowest bit of a hash value marks the last one of a chain."""
    bucket_count, first, bloom_size, _ = _unpack(struct.Struct("<IIII"), image, at)
    buckets_at = at + 16 + bloom_size * 8
    buckets = struct.Struct(f"<{min(bucket_count, _MAX_SYMBOLS)}I")
    last = max(_unpack(buckets, image, buckets_at), default=0)
    if last < first:
        return int(first)
    chain_at = buckets_at + bucket_count * 4
    while not _unpack(struct.Struct("<I"), image, chain_at + (last - first) * 4)[0] & 1:
        last += 1
    return last + 1


def _name(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at)
    if at >= len(strings) or end < 0:
        raise ValueError("the ELF image has a symbol whose name is not among its strings")
    return strings[at:end].decode("ascii", "backslashreplace")


def _offset(image: bytes, offset: int) -> int:
    if not 0 <= offset < len(image):
        raise ValueError(f"the ELF image of {len(image)} bytes has something at {offset:#x}")
    return offset


def _slice(image: bytes, offset: int, size: int) -> bytes:
    _offset(image, offset)
    if size > len(image) - offset:
        raise ValueError(f"the ELF image of {len(image)} bytes has {size} bytes at {offset:#x}")
    return image[offset : offset + size]


def _unpack(layout: struct.Struct, image: bytes, offset: int) -> tuple[int, ...]:
    return layout.unpack(_slice(image, offset, layout.size))
