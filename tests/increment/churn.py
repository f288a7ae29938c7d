"""A process whose memory is rearranged on command, one line of stdin each, answered by one line:

    write PAGE VALUE      drop PAGE (madvise)      renew PAGE (map it anew)
    move PAGE TO (mremap over another page)        protect PAGE (read-only and back)
    grow (the heap)       child (fork one that writes a page of its own)

Pages are numbers below PAGES in an area of anonymous memory.
"""

import ctypes
import mmap
import os
import signal
import sys

PAGES = 24
_PAGE = mmap.PAGESIZE
_AREA = 0x2000_0000_0000
_PROT_READ, _PROT_RW = 1, 3
_MAP = 0x32  # private, fixed, anonymous
_MREMAP = 3  # may move, to a fixed place
_MADV_DONTNEED = 4

libc = ctypes.CDLL(None, use_errno=True)
for function in (libc.mmap, libc.mremap, libc.sbrk):
    function.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, *[ctypes.c_size_t] * 2, ctypes.c_int, ctypes.c_void_p]
for function in (libc.madvise, libc.mprotect):
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _place(page: int) -> int:
    return _AREA + page * _PAGE


def write(page: int, value: int) -> None:
    ctypes.memset(_place(page), value, 64)


def drop(page: int) -> None:
    libc.madvise(_place(page), _PAGE, _MADV_DONTNEED)


def renew(page: int, number: int = 1) -> None:
    libc.mmap(_place(page), number * _PAGE, _PROT_RW, _MAP, -1, 0)


def move(page: int, to: int) -> None:
    """What was there goes to `to`, and a new page comes in its place."""
    libc.mremap(_place(page), _PAGE, _PAGE, _MREMAP, _place(to))
    renew(page)


def protect(page: int) -> None:
    libc.mprotect(_place(page), _PAGE, _PROT_READ)
    libc.mprotect(_place(page), _PAGE, _PROT_RW)


def grow() -> None:
    ctypes.memset(libc.sbrk(_PAGE), 1, 64)


def child() -> None:
    """It says that it is ready by closing its end of a pipe, and lives as long as its parent."""
    ready, says_ready = os.pipe()
    if not os.fork():
        write(0, 99)
        os.close(says_ready)
        while True:
            signal.pause()
    os.close(says_ready)
    os.read(ready, 1)
    os.close(ready)


def main() -> None:
    renew(0, PAGES)
    for page in range(PAGES):
        write(page, page + 1)
    commands = {f.__name__: f for f in (write, drop, renew, move, protect, grow, child)}
    os.write(1, b"ready\n")
    for line in iter(sys.stdin.readline, ""):
        name, *numbers = line.split()
        commands[name](*[int(number) for number in numbers])
        os.write(1, b"done\n")


if __name__ == "__main__":
    main()
