"""Sockets by descriptor, where Python's socket objects would get in the way, and what they lack."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.kernel.libc import NR, syscall

if TYPE_CHECKING:
    from collections.abc import Iterator

_SO_GET_FILTER = 26
_FILTER_SIZE = 8
_PROT_RW = mmap.PROT_READ | mmap.PROT_WRITE
_SOCK_FPROG = struct.Struct("=H6xQ")


@contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that stays open and whose O_NONBLOCK stays as it is."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def new_socket(family: int, kind: int, protocol: int = 0) -> int:
    """socket(2), close-on-exec."""
    return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol).detach()


def bind(fd: int, address: bytes) -> None:
    """bind(2). address: a struct sockaddr."""
    syscall(NR["bind"], fd, address, len(address))


def connect(fd: int, address: bytes) -> None:
    """connect(2). address: a struct sockaddr."""
    syscall(NR["connect"], fd, address, len(address))


def accept(fd: int) -> int:
    """accept4(2), close-on-exec."""
    return syscall(NR["accept4"], fd, None, None, socket.SOCK_CLOEXEC)


def get_filter(fd: int) -> bytes:
    """The classic BPF program that packets for a socket go through, an array of struct sock_filter; empty: none.

    Raises PermissionError for an eBPF program. The length of this option counts instructions, not bytes.
    """
    import ctypes

    count = ctypes.c_uint32(0)
    syscall(NR["getsockopt"], fd, socket.SOL_SOCKET, _SO_GET_FILTER, None, ctypes.byref(count))
    buffer = ctypes.create_string_buffer(count.value * _FILTER_SIZE)
    if count.value:
        syscall(NR["getsockopt"], fd, socket.SOL_SOCKET, _SO_GET_FILTER, buffer, ctypes.byref(count))
    return buffer.raw[: count.value * _FILTER_SIZE]


def attach_filter(fd: int, program: bytes) -> None:
    """Give a socket a classic BPF program."""
    import ctypes

    buffer = ctypes.create_string_buffer(program, len(program))
    value = _SOCK_FPROG.pack(len(program) // _FILTER_SIZE, ctypes.addressof(buffer))
    with borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_GET_FILTER, value)


def peek_whole_packets(fd: int, room: int) -> int:
    """How many bytes the packets of a stream have that wait and fit into so many bytes as a whole, one after the other.

    Packets of a stream show in nothing else. The kernel copies each at one go and stops at one that it can't copy
    (net/unix/af_unix.c, unix_stream_read_generic); so it is given a buffer that runs into memory it may not write to.
    """
    size = -(-room // mmap.PAGESIZE) * mmap.PAGESIZE
    base = syscall(NR["mmap"], None, size + mmap.PAGESIZE, _PROT_RW, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    try:
        syscall(NR["mprotect"], base + size, mmap.PAGESIZE, 0)
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        return syscall(NR["recvfrom"], fd, base + size - room, room + 1, flags, None, None)
    except OSError as error:
        if error.errno == errno.EFAULT:
            return 0
        raise
    finally:
        syscall(NR["munmap"], base, size + mmap.PAGESIZE)


def file_of_descriptor(fd: int) -> str:
    """A name by which any system call of this process finds the file behind a descriptor, whatever its own names."""
    return f"/proc/{os.getpid()}/fd/{fd}"
