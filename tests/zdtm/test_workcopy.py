"""Turning a work directory back: names, contents, attributes, and inodes where possible."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import stat
from pathlib import Path

from zdtm.harness.workcopy import WorkCopy


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Name -> all that must come back, with inode numbers to tell links from copies."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(root))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_nlink,
            content,
        )
    return found


def inode(path: Path) -> int:
    return path.lstat().st_ino


def make_tree(root: Path) -> None:
    root.mkdir()
    (root / "plain").write_text("plain")
    (root / "deep" / "down").mkdir(parents=True)
    (root / "deep" / "down" / "file").write_text("x" * 10000)
    (root / "link").symlink_to("nowhere")
    os.link(root / "plain", root / "second-name")
    os.mkfifo(root / "fifo", 0o640)
    (root / "mode").write_text("m")
    (root / "mode").chmod(0o4711)
    os.truncate(root / "mode", 100 << 20)  # sparse


def test_all_comes_back(tmp_path: Path) -> None:
    work = tmp_path / "work"
    make_tree(work)
    before, plain = describe(work), inode(work / "plain")
    copy = WorkCopy([work], tmp_path / "kept")
    (work / "plain").write_text("changed, and longer")
    (work / "second-name").unlink()
    (work / "deep" / "down" / "file").unlink()
    (work / "deep" / "down").rmdir()
    (work / "link").unlink()
    (work / "link").write_text("no link any more")
    (work / "fifo").unlink()
    (work / "mode").chmod(0o600)
    (work / "new").mkdir()
    (work / "new" / "file").touch()
    copy.put_back()
    assert describe(work) == before
    assert inode(work / "plain") == plain == inode(work / "second-name")
    assert (work / "mode").stat().st_blocks < 1000


def test_a_renamed_file_keeps_its_inode(tmp_path: Path) -> None:
    work = tmp_path / "work"
    make_tree(work)
    before = describe(work)
    numbers = {name: inode(work / name) for name in ("mode", "plain", "fifo")}
    copy = WorkCopy([work], tmp_path / "kept")
    (work / "mode").rename(work / "swap")
    (work / "plain").rename(work / "mode")
    (work / "swap").rename(work / "plain")
    (work / "fifo").rename(work / "deep" / "fifo")
    copy.put_back()
    assert describe(work) == before
    assert {name: inode(work / name) for name in numbers} == numbers


def test_a_file_can_be_a_root(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("READY\n")
    number = inode(out)
    copy = WorkCopy([out], tmp_path / "kept")
    with open(out, "a") as file:
        file.write("PASS\n")
    copy.put_back()
    assert out.read_text() == "READY\n"
    assert inode(out) == number


def test_nothing_is_left_of_the_way_back(tmp_path: Path) -> None:
    work = tmp_path / "work"
    make_tree(work)
    copy = WorkCopy([work], tmp_path / "kept")
    copy.put_back()
    assert not (tmp_path / "kept" / "limbo").exists()


def test_what_did_not_change_keeps_its_change_time(tmp_path: Path) -> None:
    work = tmp_path / "work"
    make_tree(work)
    copy = WorkCopy([work], tmp_path / "kept")
    before = {path: path.lstat().st_ctime_ns for path in work.rglob("*")}
    (work / "mode").write_text("new")
    del before[work / "mode"]
    copy.put_back()
    assert {path: path.lstat().st_ctime_ns for path in before} == before


def test_a_page_written_through_a_mapping_comes_back(tmp_path: Path) -> None:
    """Only the first write to a clean page changes the file's times."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "file").write_bytes(b"old")
    with open(work / "file", "r+b") as file, mmap.mmap(file.fileno(), 3) as area:
        area[0] = ord("O")
        copy = WorkCopy([work], tmp_path / "kept")
        area[:] = b"new"
        copy.put_back()
        assert (work / "file").read_bytes() == b"Old"


def test_a_lease_is_not_broken(tmp_path: Path) -> None:
    work = tmp_path / "work"
    make_tree(work)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with open(work / "mode", "r+b") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            WorkCopy([work], tmp_path / "kept").put_back()
            assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK
    finally:
        signal.signal(signal.SIGIO, before)
