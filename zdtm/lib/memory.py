"""The caller's own address space: system calls that take and give addresses as plain ints, and ways to look at it.

Everything raises OSError, named after the call. Lengths are in bytes, PAGE is the size of a page.
"""

from __future__ import annotations

import ctypes
import mmap as std
import os
import platform
import struct
from collections.abc import Callable
from typing import NamedTuple

PAGE = std.PAGESIZE

NONE, READ, WRITE, EXEC = 0, std.PROT_READ, std.PROT_WRITE, std.PROT_EXEC
RW = READ | WRITE
RWX = RW | EXEC

SHARED, PRIVATE = std.MAP_SHARED, std.MAP_PRIVATE
ANON = std.MAP_ANONYMOUS
DROPPABLE = 0x08
FIXED = 0x10
GROWSDOWN = 0x0100
NORESERVE = 0x4000
HUGETLB = 0x40000
FIXED_NOREPLACE = 0x100000

FAR = 0x1000_0000_0000
"""An address where nothing is: above the program and its heap, and far below where the kernel puts mappings of its own
choice. Holes that a program needs are safe here; elsewhere the next allocation may take them."""

MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2

MADV_WIPEONFORK = 18
MADV_GUARD_INSTALL = 102

FAILED = ctypes.c_void_p(-1).value
WATCHED = frozenset({"sd", "um", "uw", "ui"})
"""VmFlags that do not belong to the task, but to somebody who watches its memory: soft-dirty and userfaultfd"""

PAGEMAP_ENTRY = struct.Struct("Q")
PAGEMAP_PFN = (1 << 55) - 1
PAGEMAP_PRESENT = 1 << 63

RETURN_42 = {
    "x86_64": bytes.fromhex("b82a000000 c3"),  # mov eax, 42; ret
    "aarch64": bytes.fromhex("40058052 c0035fd6"),  # mov w0, #42; ret
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_void_p


def _problem(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}")


def _call(name: str, address: int, length: int, *args: int) -> None:
    if getattr(_libc, name)(ctypes.c_void_p(address), ctypes.c_size_t(length), *args) < 0:
        raise _problem(name)


# System calls.


def mmap(
    length: int, prot: int = RW, flags: int = PRIVATE | ANON, fd: int = -1, offset: int = 0, address: int = 0
) -> int:
    """mmap(2). Gives the address."""
    result = _libc.mmap(ctypes.c_void_p(address), ctypes.c_size_t(length), prot, flags, fd, ctypes.c_long(offset))
    if result == FAILED:
        raise _problem("mmap")
    return int(result)


def mremap(address: int, old_length: int, new_length: int, flags: int = 0, new_address: int = 0) -> int:
    """mremap(2). Gives the address."""
    lengths = ctypes.c_size_t(old_length), ctypes.c_size_t(new_length)
    result = _libc.mremap(ctypes.c_void_p(address), *lengths, flags, ctypes.c_void_p(new_address))
    if result == FAILED:
        raise _problem("mremap")
    return int(result)


def munmap(address: int, length: int) -> None:
    _call("munmap", address, length)


def mprotect(address: int, length: int, prot: int) -> None:
    _call("mprotect", address, length, prot)


def madvise(address: int, length: int, advice: int) -> None:
    _call("madvise", address, length, advice)


def mlock(address: int, length: int) -> None:
    _call("mlock", address, length)


# Contents.


def peek(address: int, size: int) -> bytes:
    """Read by plain loads: SIGSEGV where the kernel says no."""
    return ctypes.string_at(address, size)


def poke(address: int, data: bytes) -> None:
    """Write by plain stores: SIGSEGV where the kernel says no."""
    ctypes.memmove(address, data, len(data))


def execute(address: int) -> int:
    """Call the code there, a function of no arguments (see RETURN_42), and give its int result."""
    function: Callable[[], int] = ctypes.CFUNCTYPE(ctypes.c_int)(address)
    return function()


def return_42() -> bytes:
    """Machine code of a function that gives 42."""
    return RETURN_42[platform.machine()]


def pattern(seed: int, size: int = PAGE) -> bytes:
    """Bytes that tell pages apart: the seed, repeated as 8-byte words."""
    return struct.pack("=Q", seed) * (size // 8)


# Rights, asked of the kernel: its own copies meet the same page tables, and say EFAULT instead of raising a signal.


def readable(address: int) -> bool:
    return _through_pipe(address, back=False)


def writable(address: int) -> bool:
    """Writes the byte that is there, which makes a private page the task's own. False for what is only writable."""
    return _through_pipe(address, back=True)


def _through_pipe(address: int, back: bool) -> bool:
    """write() the byte at address to a pipe and, if asked for, read() it back to the same place."""
    reader, writer = os.pipe()
    try:
        there = ctypes.c_void_p(address)
        done = _libc.write(writer, there, 1) == 1
        return bool(done and (not back or _libc.read(reader, there, 1) == 1))
    finally:
        os.close(reader)
        os.close(writer)


# What the kernel shows of the address space.


class Vma(NamedTuple):
    """One entry of /proc/PID/smaps, see proc_pid_smaps(5)."""

    start: int
    end: int
    perms: str
    """as in "rw-p" """
    offset: int
    device: str
    inode: int
    name: str
    flags: frozenset[str]
    """the two-letter words of VmFlags, without those of WATCHED"""


def vmas() -> list[Vma]:
    """All of the caller's, in ascending order."""
    found = []
    with open("/proc/self/smaps") as file:
        head: list[str] = []
        for line in file:
            if line.startswith("VmFlags:"):
                found.append(_vma(head, frozenset(line.split()[1:]) - WATCHED))
            elif not line.split(maxsplit=1)[0].endswith(":"):
                head = line.rstrip("\n").split(maxsplit=5)
    return found


def _vma(head: list[str], flags: frozenset[str]) -> Vma:
    start, _, end = head[0].partition("-")
    name = head[5] if len(head) > 5 else ""
    return Vma(int(start, 16), int(end, 16), head[1], int(head[2], 16), head[3], int(head[4]), name, flags)


def vma_at(address: int) -> Vma:
    """The one that contains this address. LookupError when none does."""
    for vma in vmas():
        if vma.start <= address < vma.end:
            return vma
    raise LookupError(f"nothing is mapped at {address:#x}")


def map_file(address: int, flags: int = os.O_RDWR) -> int:
    """Open the file behind a shared mapping by its /proc/self/map_files entry. Gives a descriptor. For root only."""
    vma = vma_at(address)
    return os.open(f"/proc/self/map_files/{vma.start:x}-{vma.end:x}", flags)


def frame(address: int, pid: int | str = "self") -> int | None:
    """Number of the physical page frame behind this address, None when no page is there. For root only."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        (entry,) = PAGEMAP_ENTRY.unpack(os.pread(file.fileno(), PAGEMAP_ENTRY.size, address // PAGE * 8))
    return entry & PAGEMAP_PFN if entry & PAGEMAP_PRESENT else None
