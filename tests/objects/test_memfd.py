"""Memory with a descriptor: pages, holes, names, seals, and anonymous memory that is no memfd."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError, Refused
from engine.kernel.extents import data_ranges
from engine.objects.memfd import mapped_memfd_id
from tests.objects.facts import flags_of, link_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.dump_context import DumpContext
    from tests.objects.conftest import Cycle

MIB = 1 << 20
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE, SEAL_EXEC = 1, 2, 4, 8, 16, 32


@pytest.mark.parametrize("size", [0, 1, 4096, 10_000, MIB])
def test_pages(cycle: Cycle, size: int) -> None:
    fd = os.memfd_create("na\nme \udcff")
    content = os.urandom(size)
    os.write(fd, content)
    os.lseek(fd, size // 2, os.SEEK_SET)
    os.fchmod(fd, 0o640)
    os.fchown(fd, 12, 34)
    cycle.dump(fd)
    (new,) = cycle.restore()
    status = os.fstat(new)
    assert (status.st_size, status.st_uid, status.st_gid) == (size, 12, 34)
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert os.pread(new, size + 1, 0) == content
    assert os.lseek(new, 0, os.SEEK_CUR) == size // 2
    assert link_of(new) == link_of(fd)
    assert flags_of(new) == flags_of(fd)
    os.close(fd)


def test_holes(cycle: Cycle) -> None:
    fd = os.memfd_create("sparse")
    os.ftruncate(fd, 1 << 33)
    for at in (4096, 5 * MIB, (1 << 33) - 4096):
        os.pwrite(fd, b"data" * 1024, at)
    before = data_ranges(fd, 1 << 33)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert os.fstat(new).st_size == 1 << 33
    assert data_ranges(new, 1 << 33) == before
    assert os.pread(new, 4, 5 * MIB) == b"data"
    os.close(fd)


def test_descriptions_of_one_inode(cycle: Cycle) -> None:
    fd = os.memfd_create("shared")
    again = [os.open(f"/proc/self/fd/{fd}", flags) for flags in (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_PATH)]
    cycle.dump(fd, *again)
    new = cycle.restore()
    assert [flags_of(one) for one in new] == [flags_of(one) for one in (fd, *again)]
    assert len({os.fstat(one).st_ino for one in new}) == 1
    os.write(new[0], b"ab")
    os.write(new[2], b"c")
    assert os.read(new[1], 10) == b"abc"
    for each in (fd, *again):
        os.close(each)


@pytest.mark.parametrize("seals", [SEAL_SHRINK | SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE | SEAL_SEAL, SEAL_EXEC])
def test_seals(cycle: Cycle, seals: int) -> None:
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(fd, b"content")
    os.fchmod(fd, 0o600)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert fcntl.fcntl(new, fcntl.F_GET_SEALS) == seals
    assert os.pread(new, 10, 0) == b"content"
    os.close(fd)


def test_memfd_that_takes_no_seals(cycle: Cycle) -> None:
    fd = os.memfd_create("plain", 0)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert fcntl.fcntl(new, fcntl.F_GET_SEALS) == SEAL_SEAL
    os.close(fd)


def test_memfd_sealed_against_writing_is_mapped_read_only(cycle: Cycle) -> None:
    """Or the mapping would be in the way of the seal, which comes after it."""
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(4096))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEAL_WRITE)
    cycle.dump(fd)
    ctx = cycle.check()
    kind, entry = ctx.submessage(1)
    new = kind.open_mapped(entry, os.O_RDWR, ctx)
    with mmap.mmap(new, 4096, prot=mmap.PROT_READ):
        ctx.succeeded()
        assert fcntl.fcntl(new, fcntl.F_GET_SEALS) == SEAL_WRITE
    os.close(new)
    os.close(fd)
    ctx.clean_up()


@contextmanager
def anonymous(size: int) -> Iterator[tuple[mmap.mmap, str]]:
    """Shared anonymous memory and its link in map_files."""
    area = mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    yield area, f"/proc/self/map_files/{start:x}-{start + size:x}"


def test_shared_anonymous_memory_is_what_it_was(cycle: Cycle) -> None:
    with anonymous(MIB) as (area, path):
        area[4096:4100] = b"text"
        ids: list[int] = []
        mapped = os.open(path, os.O_PATH)
        fd = os.open(path, os.O_RDWR)

        def describe(ctx: DumpContext) -> None:
            ids.extend(mapped_memfd_id(ctx, ctx.root, mapped, os.readlink(path)) for _ in range(2))

        cycle.dump(fd, also=describe)
        assert ids == [1, 1]
        with cycle.images.reader("MEMFD_INODE") as reader:
            inode = next(reader)
        assert (inode.name, inode.seals, inode.size) == ("/dev/zero", SEAL_SEAL, MIB)
        assert inode.shmid == os.fstat(fd).st_ino
        ctx = cycle.check()
        kind, entry = ctx.submessage(1)
        new = kind.open_mapped(entry, os.O_RDWR, ctx)
        assert link_of(new) == "/dev/zero (deleted)"
        assert os.pread(new, 4, 4096) == b"text"
        assert data_ranges(new, MIB) == [(4096, 8192)]
        assert os.fstat(new).st_ino != os.fstat(fd).st_ino
        assert os.fstat(ctx.open_file(2)).st_ino == os.fstat(new).st_ino
        for each in (new, fd, mapped):
            os.close(each)
        ctx.clean_up()


@pytest.fixture
def huge_pages() -> Iterator[int]:
    """Size of the default huge page, of which four are there."""
    with open("/proc/meminfo") as meminfo:
        size = next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("Hugepagesize:"))
    with open("/proc/sys/vm/nr_hugepages", "r+") as number:
        before = number.read()
        number.seek(0)
        number.write("4")
    yield size
    with open("/proc/sys/vm/nr_hugepages", "w") as number:
        number.write(before)


def test_huge_pages(cycle: Cycle, huge_pages: int) -> None:
    fd = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(fd, 2 * huge_pages)
    with mmap.mmap(fd, 2 * huge_pages) as area:
        area[huge_pages + 5 : huge_pages + 9] = b"text"
    cycle.dump(fd)
    with cycle.images.reader("MEMFD_INODE") as reader:
        assert next(reader).hugetlb_flag == os.MFD_HUGETLB | (huge_pages.bit_length() - 1) << 26
    assert os.stat(cycle.directory / "pages-1.img").st_size == huge_pages, "the empty page has been stored"
    (new,) = cycle.restore()
    assert os.pread(new, 4, huge_pages + 5) == b"text"
    assert os.fstat(new).st_blksize == huge_pages
    os.close(fd)


def test_inherited(cycle: Cycle, place: Path) -> None:
    fd = os.memfd_create("replaced")
    cycle.dump(fd)
    (place / "file").write_text("instead")
    other = os.open(place / "file", os.O_RDONLY)
    cycle.opts.inherit_fd = [(other, "/memfd:replaced")]
    (new,) = cycle.restore()
    assert os.read(new, 10) == b"instead"
    os.close(fd)
    os.close(other)


def test_page_beyond_the_end(cycle: Cycle) -> None:
    fd = os.memfd_create("short")
    os.write(fd, bytes(8192))
    cycle.dump(fd)
    with cycle.images.reader("MEMFD_INODE") as reader:
        inode = next(reader)
    inode.size = 4096
    cycle.images.write("MEMFD_INODE", inode)
    with pytest.raises(CrError, match=r"a page at 0x0 is beyond the 4096 bytes"):
        cycle.check()
    os.close(fd)


def test_missing_inode(cycle: Cycle) -> None:
    fd = os.memfd_create("x")
    cycle.dump(fd)
    cycle.dump_context.entries[0].memfd.inode_id = 77
    with pytest.raises(Refused, match="memfd.img has no inode 77"):
        cycle.check()
    os.close(fd)


def test_file_on_disk_that_is_called_like_one(cycle: Cycle, place: Path) -> None:
    (place / "memfd:x").write_text("on disk")
    fd = os.open(place / "memfd:x", os.O_RDONLY)
    (place / "memfd:x").unlink()
    cycle.dump(fd)
    assert cycle.dump_context.files[0].kind.field == "reg"
    os.close(fd)
