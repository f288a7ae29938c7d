"""Mappings of a process that made them, and names that are hard to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.kernel.proc_maps import Vma, map_file, parse_smaps, read_smaps, stat_map_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.subject import Subject

PAGE = os.sysconf("SC_PAGESIZE")


def vma_at(pid: int, address: int) -> Vma:
    (vma,) = [vma for vma in read_smaps(pid) if vma.start == address]
    return vma


def test_kinds_of_mappings(start: Callable[[str], Subject]) -> None:
    subject = start("""
P = mmap.PAGESIZE
fd = os.memfd_create("mem fd"); os.ftruncate(fd, 8 * P)
info = os.fstat(fd)
stack = map(64 * P); libc.munmap(stack, 64 * P, 0)
tell(
    untouched=map(3 * P),
    nothing=map(2 * P, 0),
    executable=map(P, 5),
    shared=map(2 * P, 3, 1, fd, 2 * P),
    private=map(2 * P, 1, 2, fd, 5 * P),
    grows_down=check(libc.mmap(stack + 60 * P, P, 3, 0x122, -1, 0)),
    noreserve=map(P, 3, 0x4022),
    dev=info.st_dev, ino=info.st_ino,
)
""")
    pid, at = subject.pid, subject.facts
    vma = vma_at(pid, at["nothing"])
    assert (vma.end, vma.prot, vma.shared, vma.name, vma.dev, vma.ino) == (vma.start + 2 * PAGE, 0, False, "", 0, 0)
    assert (vma.populated, vma.page_size, vma.deleted) == (False, PAGE, False)
    assert vma_at(pid, at["executable"]).prot == 5
    vma = vma_at(pid, at["shared"])
    assert (vma.prot, vma.shared, vma.pgoff, vma.ino) == (3, True, 2 * PAGE, at["ino"])
    assert (vma.name, vma.deleted, vma.dev) == ("/memfd:mem fd", True, at["dev"])
    assert {"rd", "wr", "sh"} <= vma.flags
    vma = vma_at(pid, at["private"])
    assert (vma.prot, vma.shared, vma.pgoff) == (1, False, 5 * PAGE)
    assert "gd" in vma_at(pid, at["grows_down"]).flags
    assert "nr" in vma_at(pid, at["noreserve"]).flags
    names = {vma.name for vma in read_smaps(pid)}
    assert {"[stack]", "[vdso]", "[heap]"} <= names


@pytest.mark.parametrize(
    ("advice", "flag"), [(10, "dc"), (14, "hg"), (15, "nh"), (16, "dd"), (18, "wf"), (1, "rr"), (2, "sr")]
)
def test_advice(advice: int, flag: str, start: Callable[[str], Subject]) -> None:
    subject = start(f"""
area = map(4 * mmap.PAGESIZE)
before = check(libc.mmap(None, mmap.PAGESIZE, 1, 0x22, -1, 0))
check(libc.madvise(area, 4 * mmap.PAGESIZE, {advice}))
tell(area=area, before=before)
""")
    assert flag in vma_at(subject.pid, subject.facts["area"]).flags
    assert flag not in vma_at(subject.pid, subject.facts["before"]).flags


def test_populated_means_present_or_swapped(start: Callable[[str], Subject]) -> None:
    subject = start("""
P = mmap.PAGESIZE
touched, cold = map(4 * P), map(4 * P, 1)
ctypes.memset(touched + 3 * P, 1, 1)
tell(touched=touched, cold=cold)
""")
    assert vma_at(subject.pid, subject.facts["touched"]).populated
    assert not vma_at(subject.pid, subject.facts["cold"]).populated


MAP_FILE = """
path = os.fsencode({path!r})
fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, mmap.PAGESIZE)
info = os.fstat(fd)
area = map(mmap.PAGESIZE, 1, 2, fd)
tell(area=area, dev=info.st_dev, ino=info.st_ino)
"""


@pytest.mark.parametrize(
    "name",
    ["plain", " two  words ", "new\nline", "x (deleted)", "VmFlags: rd\nVmFlags: wr\n", "tab\t\x0b\r", "caf\udce9"],
)
def test_names(name: str, start: Callable[[str], Subject], tmp_path: Path) -> None:
    path = str(tmp_path / name)
    subject = start(MAP_FILE.format(path=path))
    vma = vma_at(subject.pid, subject.facts["area"])
    assert vma.name + (" (deleted)" if vma.deleted else "") == path
    assert os.readlink(map_file(subject.pid, vma)) == path
    assert (vma.dev, vma.ino) == (subject.facts["dev"], subject.facts["ino"])
    info = stat_map_file(subject.pid, vma)
    assert (info.st_dev, info.st_ino, info.st_nlink) == (vma.dev, vma.ino, 1)


def test_a_backslash_is_told_from_a_newline_by_the_link(start: Callable[[str], Subject], tmp_path: Path) -> None:
    path = str(tmp_path / r"a\012b")
    subject = start(MAP_FILE.format(path=path))
    vma = vma_at(subject.pid, subject.facts["area"])
    assert vma.name == str(tmp_path / "a\nb")
    assert os.readlink(map_file(subject.pid, vma)) == path


def test_deleted_or_only_named_so(start: Callable[[str], Subject], tmp_path: Path) -> None:
    path = tmp_path / "x"
    subject = start(MAP_FILE.format(path=str(path)))
    path.unlink()
    vma = vma_at(subject.pid, subject.facts["area"])
    assert (vma.name, vma.deleted) == (str(path), True)
    assert stat_map_file(subject.pid, vma).st_nlink == 0
    assert os.readlink(map_file(subject.pid, vma)) == f"{path} (deleted)"


def test_no_file_no_link(start: Callable[[str], Subject]) -> None:
    subject = start("tell(area=map(mmap.PAGESIZE))")
    vma = vma_at(subject.pid, subject.facts["area"])
    with pytest.raises(FileNotFoundError):
        stat_map_file(subject.pid, vma)
    with pytest.raises(FileNotFoundError):
        stat_map_file(subject.pid, vma._replace(end=vma.end + PAGE))


def test_many_mappings(start: Callable[[str], Subject]) -> None:
    """More text than one read(2) returns; each mapping once, ascending, none lost."""
    subject = start("""
P = mmap.PAGESIZE
area = map(2000 * P)
for page in range(0, 2000, 2):
    check(libc.mprotect(area + page * P, P, 1))
tell(area=area)
""")
    area = subject.facts["area"]
    found = [vma for vma in read_smaps(subject.pid) if area <= vma.start < area + 2000 * PAGE]
    assert [(vma.start, vma.prot) for vma in found] == [(area + n * PAGE, 3 if n % 2 else 1) for n in range(2000)]
    starts = [vma.start for vma in read_smaps(subject.pid)]
    assert starts == sorted(starts)


def test_other_page_sizes() -> None:
    text = (
        "ffff80000000-ffff80010000 r--s 00000000 103:0a 99 /x\n"
        "Size:                 64 kB\nKernelPageSize:       64 kB\nMMUPageSize:          64 kB\n"
        "Rss:                   0 kB\nSwap:                  0 kB\nTHPeligible:           0\nVmFlags: rd sh mr ms \n"
    )
    (vma,) = parse_smaps(text.encode())
    assert vma.page_size == 65536
    assert (vma.dev, vma.ino, vma.shared, vma.populated) == (os.makedev(0x103, 0x0A), 99, True, False)
