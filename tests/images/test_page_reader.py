"""Every page of a dump is found where it was put, in its own images or in those of a parent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from engine.images.runs import LAZY, PAGE, PARENT, PRESENT
from tests.images.samples import page_of, write_pagemap

if TYPE_CHECKING:
    from pathlib import Path


def test_segments(images: ImageDir) -> None:
    """PRESENT ones only; what adjoins in memory and file is one; a part can be asked for."""
    runs = [(0x1000, 2, PRESENT), (0x3000, 1, PRESENT | LAZY), (0x5000, 1, LAZY), (0x6000, 1, PRESENT), (0x7000, 1, 0)]
    write_pagemap(images, 1, runs, page_of("a", 4))
    with PageReader(images, 1) as reader:
        [fd] = reader.pages_fds()
        assert [*reader.segments()] == [(0x1000, 3, fd, 0), (0x6000, 1, fd, 3 * PAGE)]
        assert reader.nr_pages == 4
        assert [*reader.segments(0x2000, 0x3000)] == [(0x2000, 1, fd, PAGE)]
        assert [*reader.segments(0x3000)] == [(0x3000, 1, fd, 2 * PAGE), (0x6000, 1, fd, 3 * PAGE)]
        assert [*reader.segments(0x8000, 0x9000)] == []
        assert list(reader.runs) == runs


def test_a_pages_file_that_is_too_short(images: ImageDir) -> None:
    write_pagemap(images, 1, [(0, 3, PRESENT)], page_of("a", 2))
    with pytest.raises(CrError, match=r"pages-1\.img: it has 8192 bytes, but .*pagemap-1\.img puts 12288 there"):
        PageReader(images, 1)


def test_a_missing_pages_file(images: ImageDir) -> None:
    write_pagemap(images, 1, [(0, 3, PRESENT)])
    images.remove("PAGES", 1)
    with pytest.raises(CrError, match=r"pages-1\.img \(PAGES image\) is missing"):
        PageReader(images, 1)


def _generation(base: Path, number: int) -> ImageDir:
    """The directory of dump `number`, with the one before as its parent."""
    path = base / str(number)
    path.mkdir()
    if number:
        (path / "parent").symlink_to(f"../{number - 1}")
    return ImageDir(str(path))


def _found(images: ImageDir) -> dict[int, bytes]:
    """The pages that a PageReader leads to, by page number."""
    with PageReader(images, 1) as reader:
        pages = {
            vaddr // PAGE + index: os.pread(fd, PAGE, offset + index * PAGE)
            for vaddr, nr_pages, fd, offset in reader.segments()
            for index in range(nr_pages)
        }
        assert reader.nr_pages == len(pages)
    return pages


# For each dump the pages there are by then, and whether a page stayed what it was, if it was there already.
dumps = st.lists(st.dictionaries(st.integers(0, 30), st.booleans(), min_size=1), min_size=1, max_size=5)


@settings(max_examples=60)
@given(dumps)
def test_every_page_is_the_newest(tmp_path_factory: pytest.TempPathFactory, dumps: list[dict[int, bool]]) -> None:
    base = tmp_path_factory.mktemp("chain")
    memory: dict[int, bytes] = {}
    for number, pages in enumerate(dumps):
        kept = {page for page, stays in pages.items() if stays and page in memory}
        new = {page: f"{number}:{page}".encode().ljust(PAGE) for page in sorted(pages.keys() - kept)}
        memory = new | {page: memory[page] for page in kept}
        with _generation(base, number) as images:
            runs = [(page * PAGE, 1, PARENT if page in kept else PRESENT) for page in sorted(pages)]
            write_pagemap(images, 1, runs, b"".join(new.values()))
            assert _found(images) == memory


def test_a_page_that_the_parent_lacks(tmp_path: Path) -> None:
    with _generation(tmp_path, 0) as before, _generation(tmp_path, 1) as after:
        write_pagemap(before, 1, [(0x1000, 1, PRESENT), (0x3000, 2, PRESENT)], page_of("a", 3))
        for run in (0x1000, 3, PARENT), (0x4000, 2, PARENT), (0x2000, 2, PARENT):
            write_pagemap(after, 1, [run])
            with pytest.raises(CrError, match=r"parent/pagemap-1\.img: the page at 0x[25]000 is needed"):
                PageReader(after, 1)


def test_a_page_that_was_left_lazy_in_the_parent(tmp_path: Path) -> None:
    with _generation(tmp_path, 0) as before, _generation(tmp_path, 1) as after:
        write_pagemap(before, 1, [(0x1000, 1, LAZY)])
        write_pagemap(after, 1, [(0x1000, 1, PARENT)])
        with pytest.raises(CrError, match="the pages at 0x1000 are needed by a later dump, but are lazy"):
            PageReader(after, 1)


def test_no_parent(images: ImageDir) -> None:
    write_pagemap(images, 1, [(0x1000, 1, PARENT)])
    with pytest.raises(CrError, match=r"pagemap-1\.img refers to parent images, but .* no link `parent`"):
        PageReader(images, 1)


def test_parents_in_a_circle(images: ImageDir, tmp_path: Path) -> None:
    (tmp_path / "parent").symlink_to(".")
    write_pagemap(images, 1, [(0x1000, 1, PARENT)])
    with pytest.raises(CrError, match="the parent links go round in circles"):
        PageReader(images, 1)


def test_a_long_chain(tmp_path: Path) -> None:
    """Fifty pre-dumps, each with one page of its own."""
    count = 50
    for number in range(count):
        with _generation(tmp_path, number) as images:
            runs = [(page * PAGE, 1, PRESENT if page == number else PARENT) for page in range(number + 1)]
            write_pagemap(images, 1, runs, page_of(chr(40 + number)))
    with ImageDir(f"{tmp_path}/{count - 1}") as newest, PageReader(newest, 1) as reader:
        letters = [os.pread(fd, 1, offset) for _, _, fd, offset in reader.segments()]
    assert letters == [chr(40 + number).encode() for number in range(count)]


def test_descriptors_are_closed(images: ImageDir) -> None:
    before = os.listdir("/proc/self/fd")
    write_pagemap(images, 1, [(0, 1, PRESENT)], page_of("a"))
    with PageReader(images, 1):
        pass
    write_pagemap(images, 1, [(0, 1, PRESENT), (PAGE, 1, PARENT)], page_of("a"))
    with pytest.raises(CrError):
        PageReader(images, 1)
    assert os.listdir("/proc/self/fd") == before
