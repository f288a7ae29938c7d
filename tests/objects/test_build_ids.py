"""Build ids that are read ahead: used as long as the file is the same, and not read where that would be noticed."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from engine.kernel.proc_maps import Vma, map_file, read_smaps, stat_map_file
from engine.objects import build_ids

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_ids, "_read", {})


@pytest.fixture
def code() -> Vma:
    """A mapping of this process of a library's or the interpreter's code."""
    found = (vma for vma in read_smaps(os.getpid()) if vma.prot & 4 and vma.ino and words_of(vma))
    return next(found)


def words_of(vma: Vma) -> list[int]:
    fd = os.open(map_file(os.getpid(), vma), os.O_PATH)
    try:
        return build_ids.words(fd, os.fstat(fd))
    finally:
        os.close(fd)


def read_ahead(vma: Vma, leased: tuple[int, ...] = ()) -> None:
    pid = os.getpid()
    build_ids.read_ahead(map_file(pid, vma), vma, stat_map_file(pid, vma), leased)


def test_what_was_read_ahead_is_not_read_again(code: Vma, monkeypatch: pytest.MonkeyPatch) -> None:
    read_ahead(code)
    with monkeypatch.context() as patch:
        patch.setattr(build_ids, "read_build_id", pytest.fail)
        ahead = words_of(code)
    build_ids._read.clear()
    assert ahead == words_of(code) != []


def test_another_file_of_the_same_name_is_read(tmp_path: Path) -> None:
    """And the same file with other content."""
    path = tmp_path / "program"
    shutil.copy(sys.executable, path)
    fd = os.open(path, os.O_RDWR)
    try:
        before = build_ids.words(fd, os.fstat(fd))
        build_ids._read[build_ids._identity(os.fstat(fd))] = [1, 2, 3]
        assert build_ids.words(fd, os.fstat(fd)) == [1, 2, 3] != before
        os.utime(fd, ns=(0, 0))
        assert build_ids.words(fd, os.fstat(fd)) == before
    finally:
        os.close(fd)


def test_a_leased_file_is_not_opened(code: Vma) -> None:
    read_ahead(code, leased=(code.ino,))
    assert build_ids._read == {}


def test_what_others_write_to_is_not_read_ahead(code: Vma) -> None:
    read_ahead(code._replace(shared=True))
    assert build_ids._read == {}


def test_a_file_that_is_too_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_ids, "reopen", pytest.fail)
    (tmp_path / "short").write_bytes(b"\x7fELF" + bytes(59))
    fd = os.open(tmp_path / "short", os.O_RDONLY)
    assert build_ids.words(fd, os.fstat(fd)) == []
    os.close(fd)
