"""ImageDir: what files it makes, what it refuses to open, what it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.schema import message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _utsns(name: str) -> object:
    return message("utsns_entry")(nodename=name, domainname="d")


def _task(pid: int) -> object:
    return message("pstree_entry")(pid=pid, ppid=0, pgid=1, sid=1, threads=[pid])


def test_round_trip(images: ImageDir) -> None:
    images.write("UTSNS", _utsns("host"), 11)
    images.write("PSTREE", [_task(1), _task(2)])
    assert images.read_one("UTSNS", 11) == _utsns("host")
    assert [*images.read("PSTREE")] == [_task(1), _task(2)]
    assert images.read_one("PSTREE") == _task(1)


def test_bytes_of_a_file(images: ImageDir, tmp_path: Path) -> None:
    images.write("UTSNS", _utsns("h"), 11)
    assert (tmp_path / "utsns-11.img").read_bytes() == bytes.fromhex("19435654 03324754 06000000 0a0168 120164")


def test_mode(images: ImageDir, tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        images.write("UTSNS", _utsns("h"), 11)
    finally:
        os.umask(umask)
    assert (tmp_path / "utsns-11.img").stat().st_mode == 0o100644


def test_a_directory_by_descriptor(images: ImageDir, tmp_path: Path) -> None:
    """Also one that cannot be read (O_PATH), and after the given descriptor is closed."""
    fd = os.open(tmp_path, os.O_PATH)
    other = ImageDir(fd)
    os.close(fd)
    with other:
        other.write("UTSNS", _utsns("h"), 11)
        assert images.exists("UTSNS", 11)
        assert other.path("UTSNS", 11) == f"{tmp_path}/utsns-11.img"


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CrError, match=f"images directory {tmp_path}/none cannot be opened: No such file"):
        ImageDir(f"{tmp_path}/none")


def test_no_entry_no_file(images: ImageDir, tmp_path: Path) -> None:
    """Also when there is a file from an earlier dump."""
    images.write("PSTREE", [_task(1)])
    images.write("PSTREE", [])
    assert [*tmp_path.iterdir()] == []
    assert [*images.read("PSTREE")] == []


def test_the_file_appears_with_the_first_entry(images: ImageDir) -> None:
    with images.writer("PSTREE") as writer:
        assert not images.exists("PSTREE")
        writer.put(_task(1))
        assert images.exists("PSTREE")


def test_images_held_back(images: ImageDir, tmp_path: Path) -> None:
    """They come in order, the one whose file is needed before."""
    images.write("STATS", message("stats_entry")(), "dump")
    images.hold_back()
    images.write("STATS", [], "dump")
    images.write("PSTREE", [_task(1)])
    images.write("UTSNS", _utsns("h"), 11)
    images.write("FILES", [])
    with images.writer("IPTABLES", 10) as writer:
        os.write(writer.file.fileno(), b"rules")
    assert [path.name for path in tmp_path.iterdir()] == [writer.kind.file_name(10)]
    images.settle()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iptables-10.img", "pstree.img", "utsns-11.img"]
    assert [*images.read("PSTREE")] == [_task(1)]


def test_an_image_held_back_that_cannot_be_written(images: ImageDir, tmp_path: Path) -> None:
    images.hold_back()
    images.write("PSTREE", [_task(1)])
    images.write("UTSNS", _utsns("h"), 11)
    (tmp_path / "pstree.img").mkdir()
    with pytest.raises(CrError, match=r"pstree\.img cannot be created: File exists"):
        images.settle()
    assert not images.exists("UTSNS", 11)


def test_asking_for_the_file_creates_it(images: ImageDir) -> None:
    """A tool that had nothing to say leaves an empty raw image."""
    with images.writer("IPTABLES", 10) as writer:
        writer.file.write(b"")
    with images.reader("IPTABLES", 10) as reader:
        assert reader.payload() == b""


def test_an_exception_leaves_no_file(images: ImageDir, tmp_path: Path) -> None:
    def entries() -> Iterator[object]:
        yield _task(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        images.write("PSTREE", entries())
    assert [*tmp_path.iterdir()] == []


def test_an_incomplete_message(images: ImageDir, tmp_path: Path) -> None:
    with pytest.raises(CrError, match=r"pstree\.img: an incomplete entry"):
        images.write("PSTREE", message("pstree_entry")(pid=1))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_writing_spares_what_a_link_leads_to(link: object, images: ImageDir, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link(victim, tmp_path / "pstree.img")  # type: ignore[operator]
    images.write("PSTREE", [_task(1)])
    assert victim.read_text() == "precious"
    assert [*images.read("PSTREE")] == [_task(1)]


def test_a_link_made_while_we_write(images: ImageDir, tmp_path: Path) -> None:
    with images.writer("PSTREE") as writer:
        (tmp_path / "pstree.img").symlink_to("victim")
        with pytest.raises(CrError, match=r"pstree\.img cannot be created: File exists"):
            writer.put(_task(1))
    assert not (tmp_path / "victim").exists()


def test_a_directory_in_the_way(images: ImageDir, tmp_path: Path) -> None:
    (tmp_path / "pstree.img").mkdir()
    with pytest.raises(CrError, match=r"pstree\.img is in the way and cannot be removed: Is a directory"):
        images.write("PSTREE", [_task(1)])


def test_reading_through_a_symlink_is_refused(images: ImageDir, tmp_path: Path) -> None:
    images.write("UTSNS", _utsns("h"), 11)
    (tmp_path / "utsns-12.img").symlink_to("utsns-11.img")
    assert not images.exists("UTSNS", 12)
    with pytest.raises(CrError, match=r"utsns-12\.img \(UTSNS image\) cannot be opened: Too many levels"):
        images.read_one("UTSNS", 12)


def test_a_fifo_is_no_image(images: ImageDir, tmp_path: Path) -> None:
    """And does not make us wait for a writer."""
    os.mkfifo(tmp_path / "utsns-11.img")
    with pytest.raises(CrError, match="it is not a regular file"):
        images.read_one("UTSNS", 11)


def test_missing_files(images: ImageDir) -> None:
    """No file stands for no entries; but where there must be one entry it is an error."""
    assert [*images.read("FILES")] == []
    with pytest.raises(CrError, match=r"inventory\.img \(INVENTORY image\) is missing; is this the directory of a com"):
        images.read_one("INVENTORY")
    with pytest.raises(CrError, match="is missing"):
        images.read("INVENTORY")


def test_another_kind_is_named(images: ImageDir, tmp_path: Path) -> None:
    images.write("PSTREE", [_task(1)])
    (tmp_path / "pstree.img").rename(tmp_path / "utsns-11.img")
    with pytest.raises(CrError, match=r"utsns-11\.img: it is an image of kind PSTREE, but UTSNS \(0x54473203\)"):
        images.read_one("UTSNS", 11)


def test_no_image_at_all(images: ImageDir, tmp_path: Path) -> None:
    (tmp_path / "utsns-11.img").write_text("#!/bin/sh\n")
    with pytest.raises(CrError, match="its magic is 0x622f2123, no kind has that"):
        images.read_one("UTSNS", 11)


def test_version_1_of_the_format(images: ImageDir, tmp_path: Path) -> None:
    """Kinds other than the inventory had no first magic."""
    images.write("UTSNS", _utsns("old"), 11)
    path = tmp_path / "utsns-11.img"
    path.write_bytes(path.read_bytes()[4:])
    assert images.read_one("UTSNS", 11) == _utsns("old")


def test_common_where_service_belongs(images: ImageDir, tmp_path: Path) -> None:
    images.write("STATS", message("stats_entry")(), "dump")
    path = tmp_path / "stats-dump"
    path.write_bytes(bytes.fromhex("19435654") + path.read_bytes()[4:])
    with pytest.raises(CrError, match="its first magic is 0x54564319 instead of 0x55105940"):
        images.read_one("STATS", "dump")


def test_more_than_the_one_entry(images: ImageDir, tmp_path: Path) -> None:
    images.write("UTSNS", _utsns("h"), 11)
    with (tmp_path / "utsns-11.img").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CrError, match="4 bytes follow the one entry there should be"):
        images.read_one("UTSNS", 11)


def test_a_required_field_is_missing(images: ImageDir) -> None:
    with images.writer("PSTREE") as writer:
        writer.put_raw(message("pstree_entry")(pid=1, ppid=0, sid=1).SerializePartialToString())
    with pytest.raises(CrError, match=r"pstree\.img: .*pgid.*\(offset 8, PSTREE image\); the file is damaged"):
        images.read_one("PSTREE")


def test_parent(images: ImageDir, tmp_path: Path) -> None:
    assert images.parent() is None
    (tmp_path / "before").mkdir()
    (tmp_path / "parent").symlink_to("before")
    parent = images.parent()
    assert parent is not None
    with parent:
        parent.write("UTSNS", _utsns("h"), 11)
    assert (tmp_path / "before/utsns-11.img").exists()


def test_parent_that_leads_nowhere(images: ImageDir, tmp_path: Path) -> None:
    (tmp_path / "parent").symlink_to("gone")
    with pytest.raises(CrError, match="parent leads to gone, which cannot be opened: No such file"):
        images.parent()


def test_parent_that_is_no_link(images: ImageDir, tmp_path: Path) -> None:
    (tmp_path / "parent").write_text("")
    with pytest.raises(CrError, match="parent is no symlink to the parent images"):
        images.parent()


def test_no_descriptor_is_left_open(images: ImageDir, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    images.write("PSTREE", [_task(1)])
    assert len([*images.read("PSTREE")]) == 1
    (tmp_path / "utsns-11.img").write_bytes(b"")
    for kind in "UTSNS", "CORE":
        with pytest.raises(CrError):
            images.read_one(kind, 11)
    assert os.listdir("/proc/self/fd") == before


def test_a_full_disk(images: ImageDir) -> None:
    writer = images.writer("PSTREE")
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), writer.file.fileno())
    writer.put(_task(1))
    with pytest.raises(CrError, match=r"pstree\.img cannot be written: No space left on device"):
        writer.close()
    assert not images.exists("PSTREE")
