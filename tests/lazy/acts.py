"""What the restored program does with memory that has not come yet. Runs in an interpreter without site packages."""

import ctypes
import os
import random
import struct
import sys
import threading
from typing import Any

PAGE = 4096
AREA = 0x2000_0000_0000
ELSEWHERE = 0x3000_0000_0000
_RW, _FIXED_PRIVATE = 3, 0x32
_DONTNEED, _DONTFORK = 4, 10
_MOVE = 3  # may move, to a fixed place

libc = ctypes.CDLL(None, use_errno=True)
for _function in (libc.mmap, libc.mremap):
    _function.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, *[ctypes.c_size_t] * 2, ctypes.c_int, ctypes.c_void_p]
for _function in (libc.madvise, libc.mprotect):
    _function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

pages = 0
"""in the area"""


def fill(mebibytes: int) -> None:
    global pages
    pages = mebibytes << 8
    _map(AREA, pages)
    for page in range(pages):
        struct.pack_into("Q", _view(AREA + page * PAGE), 0, page + 1)
    # A mapping for a page here and there of ten gigabytes.
    _map(_SPARSE, _SPARSE_PAGES)
    for page in range(0, _SPARSE_PAGES, _SPARSE_STEP):
        struct.pack_into("Q", _view(_SPARSE + page * PAGE), 0, page + 1)


_SPARSE, _SPARSE_PAGES, _SPARSE_STEP = 0x4000_0000_0000, 10 << 18, 10_007


def _map(address: int, number: int) -> None:
    assert libc.mmap(address, number * PAGE, _RW, _FIXED_PRIVATE | 0x4000, -1, 0) == address


def _view(address: int) -> Any:
    return (ctypes.c_char * 8).from_address(address)


def look(address: int) -> int:
    """The number in a page."""
    return ctypes.c_uint64.from_address(address).value


def expect(address: int, page: int, number: int = 1) -> None:
    """`number` pages hold what pages of the area from `page` on held; page -1: they are zero."""
    order = list(range(number))
    random.shuffle(order)
    for each in order:
        wanted = page + each + 1 if page >= 0 else 0
        found = look(address + each * PAGE)
        assert found == wanted, f"page {each} at {address:#x}: {found} instead of {wanted}"
        assert look(address + each * PAGE + 8) == 0


def _checked(call: int) -> None:
    assert call == 0, os.strerror(ctypes.get_errno())


def _move(start: int, to: int, number: int, new_number: int | None = None) -> None:
    assert libc.mremap(start, number * PAGE, (new_number or number) * PAGE, _MOVE, to) == to


def _in_child(act: Any) -> int:
    """The pid of a new child that does an act and exits with 0 if that is right."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            act()
            status = 0
        except BaseException as wrong:
            print(repr(wrong), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return pid


def _reap(pid: int) -> None:
    assert os.waitpid(pid, 0)[1] == 0, "the child has found something wrong"


# Acts


def read_all() -> None:
    expect(AREA, 0, pages)


def read_sparse() -> None:
    for page in range(0, _SPARSE_PAGES, _SPARSE_STEP):
        expect(_SPARSE + page * PAGE, page)
        expect(_SPARSE + (page + 1) * PAGE, -1)


def write_every_second() -> None:
    """What is written stays, and what lies between comes."""
    for page in range(0, pages, 2):
        ctypes.memset(AREA + page * PAGE + 8, 7, 1)
    for page in range(0, pages, 2):
        assert look(AREA + page * PAGE + 8) == 7
        assert look(AREA + page * PAGE) == page + 1
        expect(AREA + (page + 1) * PAGE, page + 1)


def fork_deep() -> None:
    """Children and a grandchild whose creator is dead, which change nothing for each other."""
    half = pages // 2

    def write() -> None:
        ctypes.memset(AREA, 0xFF, 8)
        expect(AREA + PAGE, 1, pages - 1)

    def orphan() -> None:
        read_end, write_end = os.pipe()
        if os.fork():
            os._exit(0)
        expect(AREA + half * PAGE, half, half)
        os.mkdir("orphan")

    children = [_in_child(write), _in_child(read_all), _in_child(orphan)]
    expect(AREA, 0, pages)
    for child in children:
        _reap(child)
    while not os.path.exists("orphan"):
        os.sched_yield()


def drop() -> None:
    """What has been given up is zero, also in a child, whenever it is looked at."""
    third = pages // 3
    _checked(libc.madvise(AREA + third * PAGE, third * PAGE, _DONTNEED))
    child = _in_child(lambda: expect(AREA + third * PAGE, -1, third))
    expect(AREA + third * PAGE, -1, third)
    expect(AREA, 0, third)
    expect(AREA + 2 * third * PAGE, 2 * third, pages - 2 * third)
    _reap(child)


def move() -> None:
    """Halves change places, one grows, and a child sees it so."""
    half = pages // 2
    _move(AREA, ELSEWHERE, half)
    _move(AREA + half * PAGE, AREA, half)
    _move(ELSEWHERE, AREA + half * PAGE, half, half + 16)

    def check() -> None:
        expect(AREA + half * PAGE, 0, half)
        expect(AREA, half, half)
        expect(AREA + 2 * half * PAGE, -1, 16)

    child = _in_child(check)
    check()
    _reap(child)


def map_anew() -> None:
    """A place that is mapped anew is empty."""
    third = pages // 3
    _checked(libc.munmap(AREA, third * PAGE))
    _map(AREA, third)
    _map(AREA + third * PAGE, third)
    expect(AREA, -1, 2 * third)
    expect(AREA + 2 * third * PAGE, 2 * third, pages - 2 * third)


def protect() -> None:
    """Mappings are divided, and pages come whatever the rights are."""
    for page in range(0, pages, 5):
        _checked(libc.mprotect(AREA + page * PAGE, PAGE, page % 2))
    for page in range(0, pages, 5):
        _checked(libc.mprotect(AREA + page * PAGE, PAGE, _RW))
    expect(AREA, 0, pages)


def not_forked() -> None:
    """A child does not get the mapping, and lives."""
    _checked(libc.madvise(AREA, pages * PAGE, _DONTFORK))
    _reap(_in_child(read_sparse))
    expect(AREA, 0, pages)


def threads() -> None:
    """All touch the same pages at once."""
    wrong: list[BaseException] = []

    def body() -> None:
        try:
            expect(AREA, 0, pages)
        except BaseException as found:
            wrong.append(found)

    started = [threading.Thread(target=body) for _ in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if wrong:
        raise wrong[0]


def leave() -> None:
    """Children that exit, and one that becomes another program, before their memory has come."""
    children = [_in_child(lambda: look(AREA + 64 * PAGE)) for _ in range(8)]
    pid = os.fork()
    if not pid:
        os.execv("/bin/true", ["true"])
    for child in [*children, pid]:
        _reap(child)
    expect(AREA, 0, pages)


def leave_an_orphan() -> None:
    """A task whose creator is dead, and which goes on touching memory."""
    if not os.fork():
        if not os.fork():
            with open("orphan.new", "w") as file:
                file.write(str(os.getpid()))
            os.rename("orphan.new", "orphan")
            while True:
                read_all()
        os._exit(0)
    os.wait()
    while True:
        read_all()


def write_to_pipe() -> None:
    """The kernel itself touches the pages."""
    read_end, write_end = os.pipe()
    for page in range(0, pages, 16):
        os.write(write_end, _view(AREA + page * PAGE))
        assert struct.unpack("Q", os.read(read_end, 8)) == (page + 1,)
