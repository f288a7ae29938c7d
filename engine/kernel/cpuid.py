"""The CPUID instruction, which Python can't issue: 26 bytes of machine code in a page of their own (x86_64 only)."""

from __future__ import annotations

import mmap
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# push %rbx; mov %edi,%eax; mov %esi,%ecx; mov %rdx,%r8; cpuid
# mov %eax,(%r8); mov %ebx,4(%r8); mov %ecx,8(%r8); mov %edx,12(%r8); pop %rbx; ret
_CODE = bytes.fromhex("5389f889f14989d00fa241890041895804418948084189500c5bc3")
_XSAVE_LEAF = 0xD


@cache
def _function() -> Callable[..., None]:
    import ctypes

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CODE)
    anchor = ctypes.c_char.from_buffer(page)
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)(ctypes.addressof(anchor))

    def call(*args: int, _anchor: object = anchor) -> None:
        function(*args)

    return call


def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """(eax, ebx, ecx, edx) of a leaf."""
    import ctypes

    result = (ctypes.c_uint32 * 4)()
    _function()(leaf, subleaf, ctypes.addressof(result))
    eax, ebx, ecx, edx = result
    return eax, ebx, ecx, edx


@cache
def xsave_components() -> dict[int, tuple[int, int]]:
    """(offset, size) in the standard xsave area of each state component that user space may have on this CPU."""
    low, _, _, high = cpuid(_XSAVE_LEAF)
    enabled = high << 32 | low
    found = {}
    for bit in range(2, 63):
        if enabled >> bit & 1:
            size, offset, _, _ = cpuid(_XSAVE_LEAF, bit)
            found[bit] = (offset, size)
    return found
