"""Paths that are found by looking through directories, and what is kept of them from one time to the next."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import Refused
from engine.images.directory import ImageDir
from engine.kernel import notify
from engine.objects import irmap, watched_file
from engine.objects.irmap import InodeMap, watched_inodes, write_cache

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import Cycle

IN_CREATE = 0x100


def inode(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_dev, info.st_ino


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A dump that looks through "tree" only, and has an empty work directory."""
    for name in ("tree/sub/deep", "work"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(irmap, "_WELL_KNOWN", ())
    return new_context(tmp_path)


def new_context(tmp_path: Path) -> Any:
    parts: dict[Any, Any] = {}
    made = SimpleNamespace(opts=SimpleNamespace(irmap_scan_path=[str(tmp_path / "tree")]), parent=None)
    made.part = lambda make: parts.setdefault(make, make(made))
    return made


def test_what_is_found(ctx: Any, tmp_path: Path) -> None:
    (tmp_path / "tree/sub/file").touch()
    (tmp_path / "tree/link").symlink_to("sub")
    (tmp_path / "beside").touch()
    paths = InodeMap(ctx)
    for name in ("tree", "tree/sub/deep", "tree/sub/file", "tree/sub"):
        assert paths.find(inode(tmp_path / name)) == str(tmp_path / name)
    assert paths.find(inode(tmp_path / "beside")) is None


def test_well_known_directory(ctx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "known").mkdir()
    monkeypatch.setattr(irmap, "_WELL_KNOWN", ("/no/such/directory", str(tmp_path / "known")))
    assert InodeMap(ctx).find(inode(tmp_path / "known")) == str(tmp_path / "known")


def cached(ctx: Any, tmp_path: Path) -> tuple[list[Path], list[tuple[int, int]]]:
    """Two files that are in the cache, and their numbers."""
    files = [tmp_path / "tree/one", tmp_path / "tree/other"]
    for file in files:
        file.touch()
    inodes = [inode(file) for file in files]
    write_cache(inodes, ctx)
    return files, inodes


def test_cache(ctx: Any, tmp_path: Path) -> None:
    (one, other), inodes = cached(ctx, tmp_path)
    with ImageDir(".") as work_dir:
        entries = [((entry.dev, entry.inode), entry.path) for entry in work_dir.read("IRMAP_CACHE")]
    assert entries == list(zip(inodes, map(str, (one, other)), strict=True))
    again = new_context(tmp_path)
    again.opts.irmap_scan_path = []
    assert InodeMap(again).find(inodes[0]) == str(one), "it is in the cache alone"


def test_cache_after_names_were_swapped(ctx: Any, tmp_path: Path) -> None:
    (one, other), inodes = cached(ctx, tmp_path)
    one.rename(tmp_path / "tree/spare")
    other.rename(one)
    (tmp_path / "tree/spare").rename(other)
    again = InodeMap(new_context(tmp_path))
    assert [again.find(number) for number in inodes] == [str(other), str(one)]


def test_damaged_cache(ctx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("engine.log.warn", said.append)
    (tmp_path / "work/irmap-cache").write_bytes(b"nonsense")
    assert InodeMap(ctx).find(inode(tmp_path / "tree")) == str(tmp_path / "tree")
    assert "paths are looked for anew" in said[0]


def test_watched_inodes(tmp_path: Path) -> None:
    fd = notify.inotify_init()
    notify.inotify_add_watch(fd, str(tmp_path), IN_CREATE, 1)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[fd]) as other:
        task: Any = SimpleNamespace(pid=other.pid)
        assert watched_inodes([task]) == [inode(tmp_path)]
        other.kill()
    os.close(fd)


@pytest.mark.parametrize("known", [True, False])
def test_handle_that_leads_nowhere(cycle: Cycle, place: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    def stale(_mount: int, _handle: object) -> int:
        raise OSError(116, "Stale file handle")

    fd = notify.inotify_init()
    notify.inotify_add_watch(fd, str(place), IN_CREATE, 1)
    monkeypatch.setattr(watched_file, "open_handle", stale)
    monkeypatch.setattr(irmap, "_WELL_KNOWN", ())
    cycle.opts.irmap_scan_path = [str(place)] if known else []
    if known:
        (message,) = cycle.dump(fd)
        assert message.wd[0].f_handle.path == str(place)
    else:
        with pytest.raises(Refused, match="which can't be found: Stale file handle.*--irmap-scan-path"):
            cycle.dump(fd)
    os.close(fd)
