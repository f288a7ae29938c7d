"""Looking into the kernel's memory, for state that no interface tells without changing it: bpf(2).

A program of three calls runs inside bpf(2) itself (BPF_PROG_TYPE_SYSCALL) and copies from an address into an array
that is mapped here. The copy is bpf_probe_read_kernel()'s, which answers EFAULT for an address where nothing is and
never writes; the kernel's verifier vouches for the rest. Where structures have their members tells btf.py.

Nothing is locked meanwhile. Who looks must know that what is looked at stands still, or believe nothing of it.
"""

from __future__ import annotations

import mmap
import os
import struct
from functools import cache

from engine.kernel.bpf import MAP_CREATE, bpf
from engine.kernel.btf import btf

_PROG_LOAD, _PROG_TEST_RUN = 5, 10
_MAP_TYPE_ARRAY, _PROG_TYPE_SYSCALL = 2, 31
_F_SLEEPABLE, _F_MMAPABLE = 1 << 4, 1 << 10
_PSEUDO_MAP_VALUE = 2
_ROOM = 1 << 16
_LICENSE = b"Dual MIT/GPL\0"
"""What bpf_probe_read_kernel() asks for; of these few instructions, not of the engine."""
_PROBE_READ_KERNEL, _GET_CURRENT_TASK = 113, 35
_INSTRUCTION = struct.Struct("=BBhi")
_REQUEST = struct.Struct("=QQ")
_TEST_RUN = struct.Struct("=I36xI4xQ8x")
_POINTER = struct.Struct("=Q")


def _program(map_fd: int) -> bytes:
    """Copy `length` bytes from `address` to the array, or, for a length of 0, the address of the current task."""

    def one(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return _INSTRUCTION.pack(code, src << 4 | dst, offset, value)

    map_value = one(0x18, 1, _PSEUDO_MAP_VALUE, 0, map_fd) + one(0)
    return b"".join(
        [
            one(0x79, 2, 1, 8),  # r2 = ctx->length
            one(0x79, 3, 1, 0),  # r3 = ctx->address
            one(0x15, 2, 0, 5),  # if r2 == 0 goto current
            one(0x25, 2, 0, 10, _ROOM),  # if r2 > room goto refuse
            map_value,
            one(0x85, value=_PROBE_READ_KERNEL),
            one(0x95),
            # current:
            one(0x85, value=_GET_CURRENT_TASK),
            map_value,
            one(0x7B, 1, 0, 0),  # *r1 = r0
            one(0xB7, 0, 0, 0, 0),
            one(0x95),
            # refuse:
            one(0xB7, 0, 0, 0, -7),
            one(0x95),
        ]
    )


class KernelMemory:
    """Raises OSError when the kernel does not let itself be looked into (CAP_BPF and CAP_PERFMON, lockdown)."""

    def __init__(self) -> None:
        import ctypes

        map_fd, _ = bpf(MAP_CREATE, struct.pack("=IIIII", _MAP_TYPE_ARRAY, 4, _ROOM, 1, _F_MMAPABLE))
        try:
            code = _program(map_fd)
            text, license_ = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(_LICENSE)
            pointers = ctypes.addressof(text), ctypes.addressof(license_)
            load = struct.pack("=IIQQIIQII", _PROG_TYPE_SYSCALL, len(code) // 8, *pointers, 0, 0, 0, 0, _F_SLEEPABLE)
            self._fd, _ = bpf(_PROG_LOAD, load)
            self._answer = mmap.mmap(map_fd, _ROOM, prot=mmap.PROT_READ)
        finally:
            os.close(map_fd)

    def _run(self, address: int, length: int) -> None:
        import ctypes

        request = ctypes.create_string_buffer(_REQUEST.pack(address, length), _REQUEST.size)
        run = _TEST_RUN.pack(self._fd, _REQUEST.size, ctypes.addressof(request))
        _, answer = bpf(_PROG_TEST_RUN, run)
        result = struct.unpack_from("=i", answer, 4)[0]
        if result:
            raise OSError(-result, f"the kernel's memory at {address:#x}: {os.strerror(-result)}")

    def read(self, address: int, length: int) -> bytes:
        """So many bytes at an address of the kernel. Raises OSError."""
        found = bytearray()
        while len(found) < length:
            piece = min(length - len(found), _ROOM)
            self._run(address + len(found), piece)
            found += self._answer[:piece]
        return bytes(found)

    def word(self, address: int) -> int:
        """A pointer, or a number of that size."""
        return int(_POINTER.unpack(self.read(address, _POINTER.size))[0])

    def number(self, address: int, size: int = 4) -> int:
        """An unsigned number of that many bytes."""
        return int.from_bytes(self.read(address, size), "little")

    def field(self, address: int, name: str, *path: str) -> int:
        """The pointer in a member of the structure at an address. name: of the structure."""
        return self.word(address + btf().offset(name, *path))

    def current(self) -> int:
        """The address of our own struct task_struct."""
        self._run(0, 0)
        return int(_POINTER.unpack(self._answer[: _POINTER.size])[0])

    def file(self, fd: int) -> int:
        """The address of the struct file behind one of our own descriptors."""
        table = self.field(self.field(self.current(), "task_struct", "files"), "files_struct", "fdt")
        return self.word(self.field(table, "fdtable", "fd") + fd * _POINTER.size)


@cache
def kernel_memory() -> KernelMemory:
    """The one of this process."""
    return KernelMemory()
