"""Damaged images: whatever is wrong, one CrError, and no memory for what is not there."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.images.pagemap import read_pagemap
from tests.images.samples import Sample, contents, every_sample, memory_below, with_changed_bytes, write_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.images.directory import ImageDir

same_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


@pytest.fixture
def path(sample: Sample, images: ImageDir) -> Path:
    """The file of a sample."""
    return write_sample(sample, images)


@pytest.fixture
def small_memory() -> Iterator[None]:
    with memory_below(4):
        yield


def _read(images: ImageDir, sample: Sample) -> list[object]:
    if sample[0] == "PAGEMAP":
        return [read_pagemap(images, sample[1])]
    with images.reader(*sample) as reader:
        return contents(reader)


def _read_or_complain(images: ImageDir, sample: Sample) -> list[object] | None:
    """None: there was a CrError, and it named the file."""
    try:
        return _read(images, sample)
    except CrError as error:
        if images.path(*sample) not in error.message:
            raise
        return None


@every_sample
@pytest.mark.usefixtures("small_memory")
def test_cut_off_at_every_byte(sample: Sample, images: ImageDir, path: Path) -> None:
    """Unless the cut is between two entries, it is noticed."""
    whole = path.read_bytes()
    complete = _read(images, sample)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        less = _read_or_complain(images, sample)
        if less is not None:
            assert sample[0] not in ("CGROUP", "TCP_STREAM"), f"{length} of {len(whole)} bytes"
            assert len(less) <= len(complete)
            assert less != complete


@every_sample
@pytest.mark.usefixtures("small_memory")
def test_every_byte_changed(sample: Sample, images: ImageDir, path: Path) -> None:
    for damaged in with_changed_bytes(path.read_bytes()):
        path.write_bytes(damaged)
        _read_or_complain(images, sample)


@every_sample
@pytest.mark.usefixtures("small_memory")
def test_every_number_made_huge(sample: Sample, images: ImageDir, path: Path) -> None:
    whole = path.read_bytes()
    for offset in range(len(whole) - 3):
        for number in 0x7FFFFFFF, 0xFFFFFFFF:
            path.write_bytes(whole[:offset] + struct.pack("<I", number) + whole[offset + 4 :])
            _read_or_complain(images, sample)


@pytest.mark.parametrize("sample", [("PSTREE",), ("PAGEMAP", 1), ("IPCNS_MSG", 9)], ids=lambda sample: sample[0])
@same_directory
@given(seed=st.integers(0, 1 << 32), tail=st.binary(max_size=64))
def test_anything_behind_a_good_start(sample: Sample, seed: int, tail: bytes, images: ImageDir, path: Path) -> None:
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: random.Random(seed).randrange(len(whole))] + tail)
        _read_or_complain(images, sample)
    finally:
        path.write_bytes(whole)


@pytest.mark.usefixtures("small_memory")
def test_an_entry_larger_than_its_file(images: ImageDir, tmp_path: Path) -> None:
    header = bytes.fromhex("19435654 30302750")
    (tmp_path / "pstree.img").write_bytes(header + b"\xff\xff\xff\x7f")
    with pytest.raises(CrError, match=r"pstree\.img: an entry claims 2147483647 bytes where 0 are left \(offset 8"):
        images.read_one("PSTREE")


@pytest.mark.usefixtures("small_memory")
def test_a_sparse_file_can_not_make_us_allocate(images: ImageDir, tmp_path: Path) -> None:
    """The size of a file is a claim, too: it may have no blocks."""
    with (tmp_path / "pstree.img").open("wb") as file:
        file.write(bytes.fromhex("19435654 30302750") + b"\xff\xff\xff\x7f")
        file.truncate(1 << 40)
    with pytest.raises(CrError, match="an entry claims 2147483647 bytes"):
        images.read_one("PSTREE")
