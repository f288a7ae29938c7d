"""Deleted files: what comes back of them, and that nothing is left of their names."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError, Refused
from engine.kernel.extents import data_ranges
from engine.kernel.names import link_descriptor
from tests.objects.facts import link_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import Cycle

MIB = 1 << 20


def deleted(path: Path, content: bytes = b"", flags: int = os.O_RDWR) -> int:
    path.write_bytes(content)
    fd = os.open(path, flags)
    path.unlink()
    return fd


@pytest.mark.parametrize("size", [0, 1, 12287, 12288, 100_000])
def test_content(cycle: Cycle, place: Path, size: int) -> None:
    """Below 12288 bytes a ghost is stored as it is, from there on in chunks."""
    content = os.urandom(size)
    fd = deleted(place / "file", content)
    cycle.dump(fd)
    with cycle.images.reader("GHOST_FILE", 1) as image:
        assert next(image).chunks == (size >= 12288)
    (new,) = cycle.restore()
    assert os.pread(new, size + 1, 0) == content
    assert link_of(new) == link_of(fd)
    assert os.fstat(new).st_nlink == 0
    assert os.listdir(place) == []
    os.close(fd)


@pytest.mark.parametrize("fiemap", [False, True])
def test_holes(cycle: Cycle, place: Path, fiemap: bool) -> None:
    cycle.opts.ghost_fiemap = fiemap
    fd = deleted(place / "file")
    os.ftruncate(fd, 1 << 31)
    for at in (0, 8192, MIB, (1 << 31) - 8192):
        os.pwrite(fd, b"data" * 1024, at)
    before = data_ranges(fd, 1 << 31)
    assert len(before) == 4
    cycle.dump(fd)
    assert os.stat(cycle.directory / "ghost-file-1.img").st_size < 5 * 4096
    (new,) = cycle.restore()
    assert os.fstat(new).st_size == 1 << 31
    assert data_ranges(new, 1 << 31) == before
    assert os.pread(new, 4096, MIB) == b"data" * 1024
    os.close(fd)


def test_limit_counts_data_only(cycle: Cycle, place: Path) -> None:
    cycle.opts.ghost_limit = 4096
    fd = deleted(place / "file")
    os.ftruncate(fd, 1 << 30)
    os.pwrite(fd, b"x" * 4096, 1 << 20)
    cycle.dump(fd)
    os.pwrite(fd, b"x", 1 << 21)
    with pytest.raises(Refused, match=r"file: a deleted file with 8192 bytes of data \(--ghost-limit is 4096, raise"):
        cycle.dump(fd)
    os.close(fd)


def test_attributes(cycle: Cycle, place: Path) -> None:
    fd = deleted(place / "file", b"x")
    os.fchown(fd, 1234, 5678)
    os.fchmod(fd, 0o6604)
    os.utime(fd, ns=(-5_000_001_000, 123_456_000))
    cycle.dump(fd)
    (new,) = cycle.restore()
    old, now = os.fstat(fd), os.fstat(new)
    assert (now.st_uid, now.st_gid, now.st_mode) == (1234, 5678, stat.S_IFREG | 0o6604)
    assert (now.st_mtime_ns, now.st_atime_ns) == (123_456_000, -5_000_001_000)
    assert (old.st_mtime_ns, old.st_atime_ns) == (123_456_000, -5_000_001_000), "the dump has touched it"
    os.close(fd)


def test_one_ghost_for_all_descriptions_and_names(cycle: Cycle, place: Path) -> None:
    (place / "one").write_bytes(b"shared")
    (place / "two").hardlink_to(place / "one")
    fds = [os.open(place / name, flags) for name, flags in (("one", 1), ("two", 0), ("one", 1 | os.O_APPEND))]
    links = []
    for name in ("one", "two"):
        (place / name).unlink()
    links = [link_of(fd) for fd in fds]
    os.lseek(fds[1], 3, os.SEEK_SET)
    cycle.dump(*fds)
    new = cycle.restore()
    assert len({os.fstat(fd).st_ino for fd in new}) == 1
    assert [link_of(fd) for fd in new] == links
    os.pwrite(new[0], b"S", 0)
    assert os.read(new[1], 10) == b"red"
    assert os.pread(new[1], 10, 0) == b"Shared"
    for fd in fds:
        os.close(fd)


def test_name_that_is_taken_is_left_alone(cycle: Cycle, place: Path) -> None:
    fd = deleted(place / "file", b"old")
    (place / "file").write_bytes(b"new")
    before = os.stat(place / "file"), os.stat(place)
    cycle.dump(fd)
    (new,) = cycle.restore()
    after = os.stat(place / "file"), os.stat(place)
    assert os.pread(new, 10, 0) == b"old"
    assert [s.st_ino for s in after] == [s.st_ino for s in before]
    assert [s.st_mtime_ns for s in after] == [s.st_mtime_ns for s in before]
    assert os.listdir(place) == ["file"]
    os.close(fd)


def test_directory_that_is_gone_comes_back_for_a_moment_only(cycle: Cycle, place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    fd = deleted(place / "a" / "b" / "file", b"x")
    (place / "a" / "b").rmdir()
    (place / "a").rmdir()
    os.utime(place, ns=(1, 2))
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert link_of(new) == link_of(fd)
    assert os.listdir(place) == []
    assert os.stat(place).st_mtime_ns == 2
    os.close(fd)


def test_directory_whose_name_is_a_file_now(cycle: Cycle, place: Path) -> None:
    (place / "a").mkdir()
    fd = deleted(place / "a" / "file", b"x")
    (place / "a").rmdir()
    (place / "a").write_text("in the way")
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert os.pread(new, 10, 0) == b"x"
    assert os.listdir(place) == ["a"]
    os.close(fd)


def test_nested_directories(cycle: Cycle, place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    inner, outer = os.open(place / "a" / "b", os.O_RDONLY), os.open(place / "a", os.O_RDONLY)
    os.fchmod(inner, 0o2711)
    (place / "a" / "b").rmdir()
    (place / "a").rmdir()
    cycle.dump(inner, outer)
    new_inner, new_outer = cycle.restore()
    assert os.fstat(new_inner).st_mode == stat.S_IFDIR | 0o2711
    assert (link_of(new_inner), link_of(new_outer)) == (link_of(inner), link_of(outer))
    assert os.stat("..", dir_fd=new_inner).st_ino == os.fstat(new_outer).st_ino
    assert os.fstat(new_inner).st_nlink == 0
    assert os.listdir(place) == []
    os.close(inner)
    os.close(outer)


def test_other_types(cycle: Cycle, place: Path) -> None:
    os.symlink("where\n'to", place / "link")
    os.mknod(place / "node", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    link = os.open(place / "link", os.O_PATH | os.O_NOFOLLOW)
    node = os.open(place / "node", os.O_RDWR)
    (place / "link").unlink()
    (place / "node").unlink()
    cycle.dump(link, node)
    new_link, new_node = cycle.restore()
    assert os.readlink("", dir_fd=new_link) == "where\n'to"
    assert os.fstat(new_node).st_rdev == os.makedev(1, 3)
    assert os.fstat(new_node).st_mode == stat.S_IFCHR | 0o640
    assert os.write(new_node, b"gone") == 4
    assert os.listdir(place) == []
    os.close(link)
    os.close(node)


ODD_NAMES = ["quote'\"", "new\nline", "per%cent", "back\\slash", "\udcff\udcfe", "x" * 255, "x (deleted)"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(cycle: Cycle, place: Path, name: str) -> None:
    fd = deleted(place / name, b"x")
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert link_of(new) == link_of(fd)
    assert os.listdir(place) == []
    os.close(fd)


def test_file_without_a_name_from_the_start_can_still_get_one(cycle: Cycle, place: Path) -> None:
    fd = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o640)
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.write(fd, b"text")
    cycle.dump(reader, fd)
    new_reader, new = cycle.restore()
    assert os.listdir(place) == []
    directory = os.open(place, os.O_PATH)
    link_descriptor(new, directory, "named")
    os.close(directory)
    assert (place / "named").read_text() == "text"
    assert os.stat(place / "named").st_mode == stat.S_IFREG | 0o640
    assert os.pread(new_reader, 10, 0) == b"text"
    os.close(fd)
    os.close(reader)


def test_nothing_is_left_when_the_image_is_cut(cycle: Cycle, place: Path) -> None:
    (place / "gone").mkdir()
    fd = deleted(place / "gone" / "file", os.urandom(20000))
    (place / "gone").rmdir()
    cycle.dump(fd)
    image = cycle.directory / "ghost-file-1.img"
    os.truncate(image, image.stat().st_size - 1)
    with pytest.raises(CrError, match="ghost-file-1.img"):
        cycle.restore()
    assert os.listdir(place) == []
    os.close(fd)


def test_read_only_mount_is_refused_before_anything_is_done(cycle: Cycle, place: Path) -> None:
    cycle.dump(fd := deleted(place / "file"))
    os.close(fd)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", place], check=True)
    try:
        with pytest.raises(Refused, match="it has to be made in .*, which is mounted read-only"):
            cycle.check()
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", ["relative", "/a/../../etc/passwd", "/a/./b", "/nul\0"])
def test_hostile_names(cycle: Cycle, place: Path, name: str) -> None:
    cycle.dump(fd := deleted(place / "file"))
    os.close(fd)
    cycle.dump_context.entries[0].reg.name = name
    with pytest.raises(Refused, match="deleted file .*: its name .*the image is damaged"):
        cycle.check()


def test_chunk_beyond_the_end(cycle: Cycle, place: Path) -> None:
    from engine.images.schema import message

    fd = deleted(place / "file", os.urandom(20000))
    cycle.dump(fd)
    os.close(fd)
    with cycle.images.reader("GHOST_FILE", 1) as image:
        entry = next(image)
    with cycle.images.writer("GHOST_FILE", 1) as writer:
        writer.put(entry)
        writer.put(message("ghost_chunk_entry")(off=19999, len=2))
        writer.put_payload(b"xx")
    with pytest.raises(CrError, match="a chunk of 2 bytes at 19999 is beyond the file's 20000 bytes"):
        cycle.restore()
    assert os.listdir(place) == []
