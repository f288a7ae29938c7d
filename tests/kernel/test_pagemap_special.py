"""Which pages are to be stored of huge pages and guard regions, found in both ways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.kernel import pagemap, pagemap_scan
from engine.kernel.pagemap import guard_regions, page_runs
from engine.kernel.pagemap_scan import PRESENT, PageRun
from engine.kernel.proc_maps import read_smaps
from tests.kernel.runs import PAGE, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.subject import Subject


def needs_guard_regions() -> None:
    if not pagemap_scan.guard_category():
        pytest.skip("the kernel does not show guard regions")


@pytest.mark.usefixtures("backend")
def test_huge_pages(start: Callable[[str], Subject]) -> None:
    """A huge page that was written is stored whole; the huge zero page, which a read brings in, is not."""
    subject = start("""
M = 1 << 20
area = map(8 * M)
huge = (area + 2 * M - 1) & -(2 * M)
check(libc.madvise(huge, 4 * M, 14))
ctypes.memset(huge, 1, 1)
ctypes.string_at(huge + 2 * M, 1)
tell(huge=huge)
""")
    huge = subject.facts["huge"]
    (vma,) = [vma for vma in read_smaps(subject.pid) if vma.start == huge]
    assert "hg" in vma.flags
    runs = page_runs(subject.pid, [(huge, huge + (4 << 20))])
    assert runs[0].vaddr == huge
    assert sum(run.nr_pages for run in runs) * PAGE in ((2 << 20), PAGE)  # PAGE if the kernel had no huge page left
    assert runs[-1].vaddr + runs[-1].nr_pages * PAGE <= huge + (2 << 20)


@pytest.fixture
def hugetlb_pages() -> Iterator[None]:
    """Two huge pages reserved in the machine's pool."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = int(pool.read_text())
    pool.write_text(str(before + 2))
    try:
        if int(pool.read_text()) != before + 2:
            pytest.skip("no two huge pages of free memory")
        yield
    finally:
        pool.write_text(str(before))


@pytest.mark.usefixtures("hugetlb_pages")
def test_hugetlb(start: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    # Both ways in one test, for two at a time would compete for the pool.
    subject = start("""
M = 1 << 20
huge = map(4 * M, 3, 0x40022)
ctypes.memset(huge + 2 * M, 1, 1)
tell(huge=huge)
""")
    huge = subject.facts["huge"]
    (vma,) = [vma for vma in read_smaps(subject.pid) if vma.start == huge]
    assert (vma.page_size, vma.populated, "ht" in vma.flags) == (2 << 20, True, True)
    expected = [PageRun(huge + (2 << 20), (2 << 20) // PAGE, PRESENT)]
    assert page_runs(subject.pid, [(vma.start, vma.end)]) == expected
    monkeypatch.setattr(pagemap, "can_scan", lambda: False)
    assert page_runs(subject.pid, [(vma.start, vma.end)]) == expected


@pytest.mark.usefixtures("backend")
def test_guard_regions_are_not_pages(start: Callable[[str], Subject]) -> None:
    needs_guard_regions()
    subject = start("""
P = mmap.PAGESIZE
a = map(8 * P)
ctypes.memset(a, 1, 8 * P)
check(libc.madvise(a + 2 * P, 3 * P, 102))
tell(a=a)
""")
    a = subject.facts["a"]
    assert pages(page_runs(subject.pid, [(a, a + 8 * PAGE)]), a) == [0, 1, 5, 6, 7]


def test_guard_regions(start: Callable[[str], Subject]) -> None:
    needs_guard_regions()
    subject = start("""
P = mmap.PAGESIZE
a = map(8 * P)
check(libc.madvise(a + 2 * P, 3 * P, 102))
tell(a=a)
""")
    a = subject.facts["a"]
    assert guard_regions(subject.pid, [(a, a + 3 * PAGE), (a + 3 * PAGE, a + 8 * PAGE)]) == [
        (a + 2 * PAGE, a + 3 * PAGE),
        (a + 3 * PAGE, a + 5 * PAGE),
    ]
    assert guard_regions(subject.pid, []) == []
