"""What protobuf messages look like as bytes, for the few places that make them by hand."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """number >= 0, seven bits a byte, lowest first; bit 7 says that more follow."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
