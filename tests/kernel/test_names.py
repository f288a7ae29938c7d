"""Opening below a root, links to descriptors, renaming without replacing, kinds of file systems."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from engine.kernel import names
from engine.kernel.libc import syscall
from engine.kernel.names import file_system_type, link_descriptor, open_in_root, rename_if_free

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A descriptor of tmp_path/root; tmp_path/secret lies outside it."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "inside").write_text("inside")
    (tmp_path / "secret").write_text("secret")
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["etc/inside", "/etc/inside", "/../../etc/inside", "/link/inside", "/up/etc/inside"])
def test_names_in_root(name: str, root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "link").symlink_to("/etc")
    (tmp_path / "root" / "up").symlink_to("../../..")
    fd = open_in_root(root, name, os.O_RDONLY)
    assert not os.get_inheritable(fd)
    assert content(fd) == b"inside"


@pytest.mark.parametrize("times", [1, 20])
def test_somebody_renames_something_elsewhere(root: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the kernel may have its doubts about "..": 147 times of 80000 beside a process that does nothing else, which
    is too rare to be waited for."""
    doubts = iter(range(times))

    def doubtful(*call: int | bytes) -> int:
        if next(doubts, None) is not None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return syscall(*call)  # type: ignore[arg-type]

    monkeypatch.setattr(names, "syscall", doubtful)
    assert content(open_in_root(root, "etc/../etc/inside", os.O_RDONLY)) == b"inside"
    doubts = iter(range(1000))
    with pytest.raises(BlockingIOError):
        open_in_root(root, "etc/../etc/inside", os.O_RDONLY)


@pytest.mark.parametrize("name", ["/../secret", "/up/secret", "/absolute"])
def test_nothing_leads_out(name: str, root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "up").symlink_to("../../..")
    (tmp_path / "root" / "absolute").symlink_to(tmp_path / "secret")
    with pytest.raises(FileNotFoundError) as caught:
        open_in_root(root, name, os.O_RDONLY)
    assert caught.value.filename == name


def test_no_magic_link_leads_out(tmp_path: Path) -> None:
    with open(tmp_path / "outside", "w") as outside:
        proc = os.open("/proc", os.O_PATH)
        try:
            with pytest.raises(OSError) as caught:
                open_in_root(proc, f"/self/fd/{outside.fileno()}", os.O_RDONLY)
        finally:
            os.close(proc)
    assert caught.value.errno == errno.ELOOP


def test_path_only_descriptors_take_other_flags_along(root: int) -> None:
    fd = open_in_root(root, "etc", os.O_PATH | os.O_RDWR | os.O_APPEND | os.O_DIRECTORY)
    try:
        assert os.readlink(f"/proc/self/fd/{fd}").endswith("/root/etc")
    finally:
        os.close(fd)


def test_link_descriptor(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH)
    (tmp_path / "first").write_text("x")
    (tmp_path / "second").hardlink_to(tmp_path / "first")
    fd = os.open(tmp_path / "first", os.O_RDONLY)
    try:
        (tmp_path / "first").unlink()
        link_descriptor(fd, directory, "third\udcff")
        assert os.stat(tmp_path / "third\udcff").st_ino == os.fstat(fd).st_ino
        with pytest.raises(FileExistsError) as caught:
            link_descriptor(fd, directory, "second")
        assert caught.value.filename == "second"
        (tmp_path / "second").unlink()
        (tmp_path / "third\udcff").unlink()
        with pytest.raises(FileNotFoundError):
            link_descriptor(fd, directory, "fourth")
    finally:
        os.close(fd)
        os.close(directory)


def test_rename_if_free(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH)
    try:
        (tmp_path / "old").write_text("old")
        (tmp_path / "taken").write_text("taken")
        with pytest.raises(FileExistsError):
            rename_if_free(directory, "old", "taken")
        assert (tmp_path / "taken").read_text() == "taken"
        rename_if_free(directory, "old", "new")
        assert (tmp_path / "new").read_text() == "old"
        assert not (tmp_path / "old").exists()
    finally:
        os.close(directory)


def test_file_system_type() -> None:
    for path, magic in (("/proc", 0x9FA0), ("/sys", 0x62656572)):
        fd = os.open(path, os.O_PATH)
        try:
            assert file_system_type(fd) == magic
        finally:
            os.close(fd)
