"""A process whose memory never rests: two threads, and a child's two, each of which writes the number of its round into
page after page of an area, again and again. Whatever instant a picture of them is taken at, no area has more than two
numbers, the higher one first.

    program.py [UID]

Answers lines of stdin: `limit` has it make no process any more, `seen` says how often it got SIGCHLD.
"""

import ctypes
import itertools
import mmap
import os
import resource
import signal
import sys
import threading

PAGES = 2048
AREAS = (0x2000_0000_0000, 0x2000_4000_0000)
WIPED, KEPT, SHARED, READ_ONLY = (0x2000_8000_0000 + number * 0x1000_0000 for number in range(4))
"""Other mappings: with advice to give a child empty ones, or none; of shared memory; and not to be written to."""
_PROT_READ, _PROT_RW = 1, 3
_SHARED, _PRIVATE = 0x31, 0x32  # both fixed and anonymous
_MADV_DONTFORK, _MADV_WIPEONFORK = 10, 18

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
for function in (libc.madvise, libc.mprotect):
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def area(start: int, size: int, how: int = _PRIVATE) -> None:
    if libc.mmap(start, size, _PROT_RW, how, -1, 0) != start:
        raise OSError(ctypes.get_errno(), "mmap")


def others() -> None:
    for start in (WIPED, KEPT, READ_ONLY, SHARED):
        area(start, 4 * mmap.PAGESIZE, _SHARED if start == SHARED else _PRIVATE)
        ctypes.memset(start, start >> 28 & 0xFF, 4 * mmap.PAGESIZE)
    libc.madvise(WIPED, 4 * mmap.PAGESIZE, _MADV_WIPEONFORK)
    libc.madvise(KEPT, 4 * mmap.PAGESIZE, _MADV_DONTFORK)
    libc.mprotect(READ_ONLY, mmap.PAGESIZE, 0)
    libc.mprotect(READ_ONLY + mmap.PAGESIZE, mmap.PAGESIZE, _PROT_READ)


def write(start: int) -> None:
    size = PAGES * mmap.PAGESIZE
    area(start, size)
    words = (ctypes.c_uint64 * (size // 8)).from_address(start)
    for number in itertools.count(1):
        for index in range(0, size // 8, mmap.PAGESIZE // 8):
            words[index] = number


def write_all() -> None:
    for start in AREAS:
        threading.Thread(target=write, args=(start,), daemon=True).start()


def main() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, _: seen.append(number))
    if sys.argv[1:]:
        os.setresuid(*[int(sys.argv[1])] * 3)
    child = os.fork()
    others()
    write_all()
    if not child:
        signal.pause()
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "limit\n":
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        print(len(seen) if line == "seen\n" else "done", flush=True)


if __name__ == "__main__":
    main()
