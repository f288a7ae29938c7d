"""Page maps: the fast codec says the same as protobuf."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.pagemap import PagemapWriter, PageReader, read_pagemap
from engine.images.runs import LAZY, MAX_RUN, PAGE, PARENT, PRESENT, Runs, decode, encode
from engine.images.schema import message
from tests.images.samples import page_of, write_pagemap

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Run = tuple[int, int, int]
same_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@st.composite
def ascending(draw: st.DrawFn) -> list[Run]:
    """Runs as they may be: addresses of all magnitudes, from adjoining to far apart."""
    runs: list[Run] = []
    page = draw(st.sampled_from([0, 1, 0x400, 0x555555554, 0x7FFF00000, (1 << 52) - 5000]))
    small_or_large = st.one_of(st.integers(1, 40), st.integers(1, 1 << 40))
    for gap, nr_pages, flags in draw(st.lists(st.tuples(st.integers(0, 1 << 30), small_or_large, st.integers(0, 7)))):
        page += gap
        if page + nr_pages > 1 << 52:
            break
        runs.append((page * PAGE, nr_pages, flags))
        page += nr_pages
    return runs


def _split(runs: Iterable[Run]) -> list[Run]:
    """runs with no more pages than compat_nr_pages can say, written down the slow way."""
    return [
        (vaddr + done * PAGE, min(MAX_RUN, nr_pages - done), flags)
        for vaddr, nr_pages, flags in runs
        for done in range(0, nr_pages, MAX_RUN)
    ]


@given(ascending())
def test_encode_writes_what_protobuf_writes(runs: list[Run]) -> None:
    """Byte for byte."""
    expected = b""
    for vaddr, nr_pages, flags in _split(runs):
        entry = message("pagemap_entry")(vaddr=vaddr, compat_nr_pages=nr_pages, nr_pages=nr_pages, flags=flags)
        data = entry.SerializeToString()
        expected += len(data).to_bytes(4, "little") + data
    assert b"".join(encode(runs)) == expected


@same_directory
@given(ascending())
def test_what_was_written_is_read(images: ImageDir, runs: list[Run]) -> None:
    write_pagemap(images, 1, runs)
    assert read_pagemap(images, 1) == (1, Runs(_split(runs)))


@same_directory
@given(ascending())
def test_decode_reads_what_protobuf_writes(images: ImageDir, runs: list[Run]) -> None:
    """Also with compat_nr_pages left 0; and the fast way handles all of it."""
    entry = message("pagemap_entry")
    with images.writer("PAGEMAP", 1) as writer:
        writer.put(message("pagemap_head")(pages_id=7))
        for vaddr, nr_pages, flags in runs:
            writer.put(entry(vaddr=vaddr, compat_nr_pages=0, nr_pages=nr_pages, flags=flags))
    assert read_pagemap(images, 1) == (7, Runs(runs))
    with images.reader("PAGEMAP", 1) as reader:
        next(reader)
        data = reader.peek(reader.left)
    assert decode(data, Runs()) == len(data)


def test_more_than_a_window(images: ImageDir) -> None:
    runs = [(index * 5 * PAGE, index % 4 + 1, PRESENT) for index in range(50_000)]
    write_pagemap(images, 1, runs)
    assert list(read_pagemap(images, 1)[1]) == runs


def test_memory_for_many_runs() -> None:
    """A run takes the 24 bytes of its three numbers, and little more while it is decoded."""
    count = 200_000
    data = b"".join(encode((0x7F0000000000 + index * 2 * PAGE, 1, PRESENT) for index in range(count)))
    tracemalloc.start()
    runs = Runs()
    while data:
        data = data[decode(data[:262144], runs) :]
    assert len(runs) == count
    assert tracemalloc.get_traced_memory()[0] < 24 * count * 1.2
    tracemalloc.stop()


def test_old_images(images: ImageDir) -> None:
    """Before flags there was in_parent, before nr_pages what is compat_nr_pages now."""
    entry = message("pagemap_entry")
    head = message("pagemap_head")(pages_id=3)
    parent = entry(vaddr=PAGE, compat_nr_pages=2, in_parent=True)
    present = entry(vaddr=8 * PAGE, compat_nr_pages=1)
    both = entry(vaddr=10 * PAGE, compat_nr_pages=4, flags=PRESENT | LAZY)
    images.write("PAGEMAP", [head, parent, present, both], 1)
    assert list(read_pagemap(images, 1)[1]) == [
        (PAGE, 2, PARENT),
        (8 * PAGE, 1, PRESENT),
        (10 * PAGE, 4, PRESENT | LAZY),
    ]


def test_new_entries_before_old_ones(images: ImageDir) -> None:
    """The slow way goes on where the fast one gave up."""
    with images.writer("PAGEMAP", 1) as writer:
        writer.put(message("pagemap_head")(pages_id=3))
        writer.put_payload(b"".join(encode([(0, 1, PRESENT), (PAGE, 1, PRESENT)])))
        writer.put(message("pagemap_entry")(vaddr=9 * PAGE, compat_nr_pages=1))
    assert [vaddr for vaddr, _, _ in read_pagemap(images, 1)[1]] == [0, PAGE, 9 * PAGE]


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        ([(0x1234, 1, 4)], "the run of 1 pages at 0x1234 does not start on a page boundary"),
        ([(0x1000, 0, 4)], "the run of 0 pages at 0x1000 is empty"),
        ([((1 << 64) - PAGE, 2, 4)], "goes beyond the end of the address space"),
        ([(0x1000, 1 << 63, 4), (0x2000, 1, 4)], "goes beyond the end of the address space"),
        ([(0x1000, 1, 9)], "has unknown flags 0x9"),
        ([(0x1000, 2, 4), (0x2000, 1, 4)], "at 0x2000 starts before the run in front of it ends at 0x3000"),
        ([(0x2000, 1, 4), (0x1000, 1, 4)], "at 0x1000 starts before the run in front of it ends at 0x3000"),
    ],
)
def test_runs_that_cannot_be(images: ImageDir, runs: list[Run], problem: str) -> None:
    entry = message("pagemap_entry")
    entries = [entry(vaddr=vaddr, compat_nr_pages=0, nr_pages=nr, flags=flags) for vaddr, nr, flags in runs]
    images.write("PAGEMAP", [message("pagemap_head")(pages_id=1), *entries], 1)
    with pytest.raises(CrError, match=rf"pagemap-1\.img: .*{problem}"):
        read_pagemap(images, 1)


def test_the_last_page_of_the_address_space(images: ImageDir) -> None:
    runs = [((1 << 64) - PAGE, 1, PRESENT)]
    write_pagemap(images, 1, runs, page_of("a"))
    with PageReader(images, 1) as reader:
        [(vaddr, nr_pages, _, offset)] = reader.segments()
    assert (vaddr, nr_pages, offset) == ((1 << 64) - PAGE, 1, 0)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_size_that_is_wrong(images: ImageDir, tmp_path: Path, change: int) -> None:
    """The fast way only adds the sizes up, and leaves the rest to the slow one."""
    write_pagemap(images, 1, [(0x10000, 1, PRESENT), (0x20000, 1, PRESENT), (0x30000, 1, PRESENT)])
    path = tmp_path / "pagemap-1.img"
    good = path.read_bytes()
    second = good.index(b"\0\0\0\x08", good.index(b"\0\0\0\x08", 16) + 1) - 1
    path.write_bytes(good[:second] + bytes((good[second] + change,)) + good[second + 1 :])
    with pytest.raises(CrError, match=r"pagemap-1\.img: "):
        read_pagemap(images, 1)


def test_no_runs(images: ImageDir, tmp_path: Path) -> None:
    """An unattached segment: just the head, and no pages file is asked for."""
    with PagemapWriter(images, 5, "SHMEM_PAGEMAP", 2) as writer:
        writer.write([])
    assert os.listdir(tmp_path) == ["pagemap-shmem-5.img"]
    with PageReader(images, 5, "SHMEM_PAGEMAP") as reader:
        assert ([*reader.segments()], reader.nr_pages, reader.pages_fds()) == ([], 0, [])


def test_an_exception_leaves_neither_file(images: ImageDir, tmp_path: Path) -> None:
    def runs() -> Iterable[Run]:
        yield 0, 1, PRESENT
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_pagemap(images, 1, runs(), page_of("a"))
    assert os.listdir(tmp_path) == []


def test_encode_in_pieces() -> None:
    runs = [(index * 2 * PAGE, 1, PRESENT) for index in range(20_000)]
    pieces = list(encode(runs))
    assert len(pieces) > 1
    again = Runs()
    assert decode(b"".join(pieces), again) == sum(map(len, pieces))
    assert again == Runs(runs)
