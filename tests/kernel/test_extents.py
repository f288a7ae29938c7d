"""Where the data of a sparse file is, by both ways of asking, and copying pieces of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.kernel.extents import copy_range, data_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 4096


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """An empty file on the disk."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture(params=[False, True], ids=["SEEK_DATA", "FIEMAP"])
def fiemap(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_empty(file: int, fiemap: bool) -> None:
    assert data_ranges(file, 0, fiemap) == []


def test_all_hole(file: int, fiemap: bool) -> None:
    os.truncate(file, 100 * BLOCK)
    assert data_ranges(file, 100 * BLOCK, fiemap) == []


def test_data_between_holes(file: int, fiemap: bool) -> None:
    size = 100 * BLOCK + 10
    os.truncate(file, size)
    os.pwrite(file, b"x" * BLOCK, 3 * BLOCK)
    os.pwrite(file, b"x" * BLOCK, 4 * BLOCK)
    os.pwrite(file, b"x", 50 * BLOCK)
    os.pwrite(file, b"x", size - 1)
    assert data_ranges(file, size, fiemap) == [(3 * BLOCK, 5 * BLOCK), (50 * BLOCK, 51 * BLOCK), (100 * BLOCK, size)]


def test_only_the_first_bytes(file: int, fiemap: bool) -> None:
    os.pwrite(file, b"x" * 10 * BLOCK, 0)
    os.pwrite(file, b"x", 20 * BLOCK)
    assert data_ranges(file, 5 * BLOCK + 1, fiemap) == [(0, 5 * BLOCK + 1)]
    assert data_ranges(file, 20 * BLOCK, fiemap) == [(0, 10 * BLOCK)]


def test_many_extents(file: int, fiemap: bool) -> None:
    """More of them than one FIEMAP call returns."""
    expected = [(2 * number * BLOCK, (2 * number + 1) * BLOCK) for number in range(1500)]
    for start, _ in expected:
        os.pwrite(file, b"x", start)
    os.truncate(file, 3000 * BLOCK)
    assert data_ranges(file, 3000 * BLOCK, fiemap) == expected


def test_allocated_but_never_written_is_a_hole(file: int) -> None:
    os.posix_fallocate(file, 0, 10 * BLOCK)
    os.pwrite(file, b"x", 5 * BLOCK)
    assert data_ranges(file, 10 * BLOCK, fiemap=True) == [(5 * BLOCK, 6 * BLOCK)]


def test_file_system_without_fiemap() -> None:
    fd = os.memfd_create("file")
    try:
        os.pwrite(fd, b"x", 7 * BLOCK)
        assert data_ranges(fd, 7 * BLOCK + 1, fiemap=True) == [(7 * BLOCK, 7 * BLOCK + 1)]
    finally:
        os.close(fd)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 60)))
def test_what_is_left_out_reads_as_zeros(file: int, fiemap: bool, blocks: set[int]) -> None:
    os.truncate(file, 0)
    os.truncate(file, 61 * BLOCK)
    for block in blocks:
        os.pwrite(file, b"\1" * BLOCK, block * BLOCK)
    ranges = data_ranges(file, 61 * BLOCK, fiemap)
    assert {number for start, end in ranges for number in range(start // BLOCK, end // BLOCK)} == blocks


def test_copy(file: int) -> None:
    os.pwrite(file, bytes(range(256)) * 64, 0)
    target = os.memfd_create("target")
    try:
        copy_range(file, 100, target, 1000, 5000)
        assert os.lseek(target, 0, os.SEEK_CUR) == 6000
        assert os.pread(target, 7000, 1000) == (bytes(range(256)) * 64)[100:5100]
        copy_range(file, 0, target, 0, 0)
        with pytest.raises(EOFError, match="ends at byte 16384, 1 more are wanted"):
            copy_range(file, 16000, target, 0, 385)
    finally:
        os.close(target)
