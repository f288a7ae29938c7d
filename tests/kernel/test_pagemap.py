"""Which pages are to be stored, found in both ways, on mappings of every sort."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from engine.kernel import pagemap, pagemap_scan
from engine.kernel.pagemap import page_runs, private_pages
from engine.kernel.pagemap_entries import parse_entries
from engine.kernel.pagemap_scan import FILE, PRESENT, SOFT_DIRTY, SWAPPED, WRITTEN, PageRun
from engine.kernel.proc_maps import read_smaps
from tests.kernel.runs import PAGE, needs_scan, pages
from tests.tools import needs_write_protection

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.subject import Subject


MAPPINGS = """
P = mmap.PAGESIZE
file = os.memfd_create("file")
os.write(file, bytes(range(256)) * (P // 256) * 8)
READ, RW, PRIVATE, SHARED = 1, 3, 2, 1

def write(address, *pages):
    for page in pages:
        ctypes.memset(address + page * P, 7, 1)

def read(address, *pages):
    for page in pages:
        ctypes.string_at(address + page * P, 1)

untouched = map(8 * P)
anonymous = map(8 * P); write(anonymous, 0, 1, 5); read(anonymous, 2, 7)
gone = map(8 * P); write(gone, 0, 1, 2); libc.madvise(gone, 2 * P, 4)
protected = map(8 * P); write(protected, 3, 4); libc.mprotect(protected, 8 * P, 0)
shared_anonymous = map(8 * P, RW, 0x21); write(shared_anonymous, 0, 1)
file_untouched = map(8 * P, RW, PRIVATE, file)
file_read = map(8 * P, READ, PRIVATE, file); read(file_read, 0, 1, 2, 3)
file_copied = map(8 * P, RW, PRIVATE, file); read(file_copied, 0, 1, 2, 3); write(file_copied, 2, 6)
file_shared = map(8 * P, RW, SHARED, file); write(file_shared, 0)
"""


@pytest.mark.usefixtures("backend")
def test_pages_to_store(start: Callable[[str], Subject]) -> None:
    expected: dict[str, list[int]] = {
        "untouched": [],
        "anonymous": [0, 1, 5],
        "gone": [2],
        "protected": [3, 4],
        "shared_anonymous": [],
        "file_untouched": [],
        "file_read": [],
        "file_copied": [2, 6],
        "file_shared": [],
    }
    subject = start(MAPPINGS + f"tell(**{{name: globals()[name] for name in {list(expected)!r}}})")
    found = {
        name: pages(page_runs(subject.pid, [(address, address + 8 * PAGE)]), address)
        for name, address in subject.facts.items()
    }
    assert found == expected


@pytest.mark.usefixtures("backend")
def test_file_pages(start: Callable[[str], Subject]) -> None:
    subject = start(MAPPINGS + "tell(copied=file_copied, shared=file_shared)")
    copied, shared = subject.facts["copied"], subject.facts["shared"]
    runs = page_runs(subject.pid, [(copied, copied + 8 * PAGE)], file_pages=True)
    # How many neighbours of a page a fault brings in is the kernel's business ("fault around").
    anonymous = [run for run in runs if not run.categories & FILE]
    assert pages(anonymous, copied) == [2, 6]
    assert {0, 1, 3} <= set(pages(runs, copied))
    (run, *_) = page_runs(subject.pid, [(shared, shared + 8 * PAGE)], file_pages=True)
    assert run.vaddr == shared
    assert run.categories == PRESENT | FILE


@pytest.mark.usefixtures("backend")
def test_runs_end_with_their_ranges(start: Callable[[str], Subject]) -> None:
    subject = start("P = mmap.PAGESIZE\na = map(16 * P)\nctypes.memset(a, 1, 16 * P)\ntell(a=a)")
    a = subject.facts["a"]
    ranges = [(a + first * PAGE, a + last * PAGE) for first, last in ((0, 2), (2, 3), (5, 9), (15, 16))]
    assert page_runs(subject.pid, ranges) == [PageRun(first, (last - first) // PAGE, PRESENT) for first, last in ranges]


@pytest.mark.usefixtures("backend")
def test_as_many_runs_as_one_call_returns(start: Callable[[str], Subject]) -> None:
    subject = start("""
P = mmap.PAGESIZE
a = map(70000 * P)
for page in range(0, 2 * 16384, 2):
    ctypes.memset(a + page * P, 1, 1)
tell(a=a)
""")
    a = subject.facts["a"]
    runs = page_runs(subject.pid, [(a, a + 70000 * PAGE)])
    assert runs == [PageRun(a + page * PAGE, 1, PRESENT) for page in range(0, 2 * 16384, 2)]


@pytest.mark.usefixtures("backend")
def test_many_runs(start: Callable[[str], Subject]) -> None:
    """More runs than one PAGEMAP_SCAN returns, more pages than the fallback reads at once."""
    subject = start("""
P = mmap.PAGESIZE
a = map(70000 * P)
for page in range(0, 40000, 2):
    ctypes.memset(a + page * P, 1, 1)
ctypes.memset(a + 65000 * P, 1, 2000 * P)
tell(a=a)
""")
    a = subject.facts["a"]
    runs = page_runs(subject.pid, [(a, a + 70000 * PAGE)])
    assert runs == [
        *(PageRun(a + page * PAGE, 1, PRESENT) for page in range(0, 40000, 2)),
        PageRun(a + 65000 * PAGE, 2000, PRESENT),
    ]


def test_both_ways_agree_on_a_whole_address_space(
    start: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = start(MAPPINGS + "import re, subprocess, decimal\ntell()")
    subject.stop()
    ranges = [(vma.start, vma.end) for vma in read_smaps(subject.pid) if vma.name != "[vsyscall]"]
    scanned = page_runs(subject.pid, ranges)
    scanned_private = private_pages(subject.pid)
    monkeypatch.setattr(pagemap, "can_scan", lambda: False)
    assert page_runs(subject.pid, ranges) == scanned
    assert pieces(private_pages(subject.pid)) == pieces(scanned_private)
    assert len(pieces(scanned_private)) > 100


def pieces(ranges: list[tuple[int, int]]) -> set[int]:
    return {page for start, end in ranges for page in range(start, end, PAGE)}


@pytest.mark.usefixtures("backend")
def test_content_is_preserved_by_the_pages_found(start: Callable[[str], Subject]) -> None:
    """The definition of what must be stored: every page of an anonymous mapping that is left out reads as zeros."""
    subject = start(MAPPINGS + "tell(a=anonymous)")
    a = subject.facts["a"]
    stored = pages(page_runs(subject.pid, [(a, a + 8 * PAGE)]), a)
    with open(f"/proc/{subject.pid}/mem", "rb", buffering=0) as mem:
        for page in range(8):
            content = os.pread(mem.fileno(), PAGE, a + page * PAGE)
            assert (page in stored) == any(content)


@pytest.mark.usefixtures("backend")
def test_written_pages_are_told_apart(start: Callable[[str], Subject]) -> None:
    """WRITTEN after userfaultfd write-protection in asynchronous mode, the way changed pages are tracked."""
    needs_write_protection()
    subject = start("""
import fcntl, struct
P = mmap.PAGESIZE
a = map(8 * P)
ctypes.memset(a, 1, 8 * P)
uffd = check(libc.syscall(323 if os.uname().machine == "x86_64" else 282, 0o2000000 | 1))
fcntl.ioctl(uffd, 0xC018AA3F, bytearray(struct.pack("=3Q", 0xAA, 1 << 15 | 1 << 13, 0)))  # UFFDIO_API: WP_ASYNC
fcntl.ioctl(uffd, 0xC020AA00, bytearray(struct.pack("=4Q", a, 8 * P, 2, 0)))  # UFFDIO_REGISTER: mode WP
fcntl.ioctl(uffd, 0xC018AA06, bytearray(struct.pack("=3Q", a, 8 * P, 1)))  # UFFDIO_WRITEPROTECT
ctypes.memset(a + 2 * P, 2, 3 * P)
tell(a=a)
""")
    a = subject.facts["a"]
    assert page_runs(subject.pid, [(a, a + 8 * PAGE)], report=WRITTEN) == [
        PageRun(a, 2, PRESENT),
        PageRun(a + 2 * PAGE, 3, PRESENT | WRITTEN),
        PageRun(a + 5 * PAGE, 3, PRESENT),
    ]


def entry(*bits: int, pfn: int = 5) -> int:
    return sum(1 << bit for bit in bits) | pfn


def test_entries_of_states_that_are_hard_to_come_by() -> None:
    bits = [(62,), (62,), (62, 61), (63, 56), (63, 55), (63, 55, 56), (62, 58), (55,)]
    entries = [entry(*numbers) for numbers in bits]
    data = struct.pack(f"={len(entries)}Q", *entries)
    assert parse_entries(data, 0, False, 0) == [PageRun(0, 2, SWAPPED), PageRun(3 * PAGE, 3, PRESENT)]
    assert parse_entries(data, 0, True, SOFT_DIRTY) == [
        PageRun(0, 2, SWAPPED),
        PageRun(2 * PAGE, 1, SWAPPED | FILE),
        PageRun(3 * PAGE, 1, PRESENT),
        PageRun(4 * PAGE, 2, PRESENT | SOFT_DIRTY),
    ]


@pytest.mark.usefixtures("backend")
def test_no_ranges() -> None:
    assert page_runs(os.getpid(), []) == []


@pytest.mark.usefixtures("backend")
def test_a_zombie_has_no_memory() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(ProcessLookupError):
            page_runs(pid, [(0, PAGE)])
    finally:
        os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        page_runs(pid, [(0, PAGE)])


def test_task_size_is_above_the_stack() -> None:
    needs_scan()
    (stack,) = [vma for vma in read_smaps(os.getpid()) if vma.name == "[stack]"]
    assert stack.end <= pagemap_scan.task_size()
