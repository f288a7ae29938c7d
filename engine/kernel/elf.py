"""ELF files, read as far as the engine needs it and no further: any file may claim to be one (elf(5))."""

from __future__ import annotations

import os
import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
HEADER_SIZE = _HEADER.size
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_MAGIC_64_LITTLE = b"\x7fELF\x02\x01\x01"
_PT_NOTE = 4
_NT_GNU_BUILD_ID = 3
_MAX_PROGRAM_HEADERS = 128
_MAX_NOTES_SIZE = 1 << 16
_MAX_BUILD_ID = 64


def read_build_id(fd: int) -> bytes:
    """The GNU build id of an executable or library, b"" for anything else. The file's offset does not move."""
    header = os.pread(fd, _HEADER.size, 0)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC_64_LITTLE):
        return b""
    _, _, _, _, _, table, _, _, _, entry_size, count, _, _, _ = _HEADER.unpack(header)
    if entry_size != _PROGRAM_HEADER.size or count > _MAX_PROGRAM_HEADERS or table >> 62:
        return b""
    headers = os.pread(fd, count * entry_size, table)
    for at in range(0, len(headers) - entry_size + 1, entry_size):
        kind, _, offset, _, _, size, _, _ = _PROGRAM_HEADER.unpack_from(headers, at)
        if kind == _PT_NOTE and size <= _MAX_NOTES_SIZE and not offset >> 62:
            build_id = _find_build_id(os.pread(fd, size, offset))
            if build_id:
                return build_id
    return b""


def _find_build_id(notes: bytes) -> bytes:
    """Notes are (name size, content size, type), name, content, each padded to four bytes."""
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name_at = at + _NOTE.size
        content_at = name_at + -(-name_size // 4) * 4
        if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0" and size <= _MAX_BUILD_ID:
            return notes[content_at : content_at + size]
        at = content_at + -(-size // 4) * 4
    return b""
