"""Pages in the kernel's memory: where the bytes behind a struct page are.

The kernel maps all of physical memory in one stretch, and its struct pages are one array. Where both begin is chosen
anew at each boot, but a page of our own tells it: /proc/PID/pagemap has its number, a pipe that it was given to
(vmsplice(2)) its struct page, and a word that nobody else has shows where it is mapped. The stretch begins at a
multiple of 1 GiB below every object that the kernel has allocated, so few places have to be tried.
"""

from __future__ import annotations

import mmap
import os
from functools import cache
from typing import NamedTuple

from engine.kernel.btf import btf
from engine.kernel.kernel_memory import kernel_memory
from engine.kernel.libc import NR, syscall

_PAGE = mmap.PAGESIZE
_GIB = 1 << 30
_MOST_GIB = 1 << 12
_PFN = (1 << 55) - 1
_WORD = 16


class _Map(NamedTuple):
    """page: address of the struct page of page 0; memory: where page 0 is mapped."""

    page: int
    memory: int


@cache
def _map() -> _Map:
    """Raises OSError when it can't be found out."""
    import ctypes

    with mmap.mmap(-1, _PAGE) as own:
        own[:_WORD] = word = os.urandom(_WORD)
        address = ctypes.addressof(ctypes.c_char.from_buffer(own))
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            number = int.from_bytes(os.pread(pagemap.fileno(), 8, address // _PAGE * 8), "little") & _PFN
        if not number:
            raise PermissionError("the numbers of pages are hidden (CAP_SYS_ADMIN)")
        reader, writer = os.pipe()
        try:
            syscall(NR["vmsplice"], writer, (address).to_bytes(8, "little") + (_PAGE).to_bytes(8, "little"), 1, 0)
            page = _first_page(reader)
            return _Map(page - number * btf().size("page"), _find(word, number * _PAGE, reader))
        finally:
            os.close(reader)
            os.close(writer)


def _first_page(reader: int) -> int:
    """The struct page of the oldest buffer in a pipe."""
    memory = kernel_memory()
    pipe = memory.field(memory.file(reader), "file", "private_data")
    return memory.field(memory.field(pipe, "pipe_inode_info", "bufs"), "pipe_buffer", "page")


def _find(word: bytes, physical: int, fd: int) -> int:
    """Where physical memory is mapped, which has a word at a physical address. fd: of anything."""
    memory = kernel_memory()
    start = memory.file(fd) // _GIB * _GIB
    for step in range(_MOST_GIB):
        try:
            if memory.read(start - step * _GIB + physical, len(word)) == word:
                return start - step * _GIB
        except OSError:
            continue
    raise OSError(0, "the mapping of physical memory was not found")


def read_page(page: int, offset: int, length: int) -> bytes:
    """Bytes of a page, or of those that follow it. page: address of its struct page. Raises OSError."""
    base = _map()
    number = (page - base.page) // btf().size("page")
    return kernel_memory().read(base.memory + number * _PAGE + offset, length)
