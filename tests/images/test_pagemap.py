"""Page maps: the fast codec says the same as protobuf, and every page is found where it was put."""

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


def _write(images: ImageDir, id: int, runs: Iterable[Run], pages: bytes = b"") -> None:
    """A page map id with pages-id.img."""
    with PagemapWriter(images, id, "PAGEMAP", id) as writer:
        os.write(writer.pages_fd, pages)
        writer.write(runs)


def _page(letter: str, count: int = 1) -> bytes:
    return letter.encode() * PAGE * count


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
    _write(images, 1, runs)
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
    _write(images, 1, runs)
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
    _write(images, 1, runs, _page("a"))
    with PageReader(images, 1) as reader:
        [(vaddr, nr_pages, _, offset)] = reader.segments()
    assert (vaddr, nr_pages, offset) == ((1 << 64) - PAGE, 1, 0)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_size_that_is_wrong(images: ImageDir, tmp_path: Path, change: int) -> None:
    """The fast way only adds the sizes up, and leaves the rest to the slow one."""
    _write(images, 1, [(0x10000, 1, PRESENT), (0x20000, 1, PRESENT), (0x30000, 1, PRESENT)])
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
        _write(images, 1, runs(), _page("a"))
    assert os.listdir(tmp_path) == []


def test_segments(images: ImageDir) -> None:
    """PRESENT ones only; what adjoins in memory and file is one; a part can be asked for."""
    runs = [(0x1000, 2, PRESENT), (0x3000, 1, PRESENT | LAZY), (0x5000, 1, LAZY), (0x6000, 1, PRESENT), (0x7000, 1, 0)]
    _write(images, 1, runs, _page("a", 4))
    with PageReader(images, 1) as reader:
        [fd] = reader.pages_fds()
        assert [*reader.segments()] == [(0x1000, 3, fd, 0), (0x6000, 1, fd, 3 * PAGE)]
        assert reader.nr_pages == 4
        assert [*reader.segments(0x2000, 0x3000)] == [(0x2000, 1, fd, PAGE)]
        assert [*reader.segments(0x3000)] == [(0x3000, 1, fd, 2 * PAGE), (0x6000, 1, fd, 3 * PAGE)]
        assert [*reader.segments(0x8000, 0x9000)] == []
        assert list(reader.runs) == runs


def test_a_pages_file_that_is_too_short(images: ImageDir) -> None:
    _write(images, 1, [(0, 3, PRESENT)], _page("a", 2))
    with pytest.raises(CrError, match=r"pages-1\.img: it has 8192 bytes, but .*pagemap-1\.img puts 12288 there"):
        PageReader(images, 1)


def test_a_missing_pages_file(images: ImageDir) -> None:
    _write(images, 1, [(0, 3, PRESENT)])
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
            _write(images, 1, runs, b"".join(new.values()))
            assert _found(images) == memory


def test_a_page_that_the_parent_lacks(tmp_path: Path) -> None:
    with _generation(tmp_path, 0) as before, _generation(tmp_path, 1) as after:
        _write(before, 1, [(0x1000, 1, PRESENT), (0x3000, 2, PRESENT)], _page("a", 3))
        for run in (0x1000, 3, PARENT), (0x4000, 2, PARENT), (0x2000, 2, PARENT):
            _write(after, 1, [run])
            with pytest.raises(CrError, match=r"parent/pagemap-1\.img: the page at 0x[25]000 is needed"):
                PageReader(after, 1)


def test_a_page_that_was_left_lazy_in_the_parent(tmp_path: Path) -> None:
    with _generation(tmp_path, 0) as before, _generation(tmp_path, 1) as after:
        _write(before, 1, [(0x1000, 1, LAZY)])
        _write(after, 1, [(0x1000, 1, PARENT)])
        with pytest.raises(CrError, match="the pages at 0x1000 are needed by a later dump, but are lazy"):
            PageReader(after, 1)


def test_no_parent(images: ImageDir) -> None:
    _write(images, 1, [(0x1000, 1, PARENT)])
    with pytest.raises(CrError, match=r"pagemap-1\.img refers to parent images, but .* no link `parent`"):
        PageReader(images, 1)


def test_parents_in_a_circle(images: ImageDir, tmp_path: Path) -> None:
    (tmp_path / "parent").symlink_to(".")
    _write(images, 1, [(0x1000, 1, PARENT)])
    with pytest.raises(CrError, match="the parent links go round in circles"):
        PageReader(images, 1)


def test_a_long_chain(tmp_path: Path) -> None:
    """Fifty pre-dumps, each with one page of its own."""
    count = 50
    for number in range(count):
        with _generation(tmp_path, number) as images:
            runs = [(page * PAGE, 1, PRESENT if page == number else PARENT) for page in range(number + 1)]
            _write(images, 1, runs, _page(chr(40 + number)))
    with ImageDir(f"{tmp_path}/{count - 1}") as newest, PageReader(newest, 1) as reader:
        letters = [os.pread(fd, 1, offset) for _, _, fd, offset in reader.segments()]
    assert letters == [chr(40 + number).encode() for number in range(count)]


def test_descriptors_are_closed(images: ImageDir) -> None:
    before = os.listdir("/proc/self/fd")
    _write(images, 1, [(0, 1, PRESENT)], _page("a"))
    with PageReader(images, 1):
        pass
    _write(images, 1, [(0, 1, PRESENT), (PAGE, 1, PARENT)], _page("a"))
    with pytest.raises(CrError):
        PageReader(images, 1)
    assert os.listdir("/proc/self/fd") == before


def test_encode_in_pieces() -> None:
    runs = [(index * 2 * PAGE, 1, PRESENT) for index in range(20_000)]
    pieces = list(encode(runs))
    assert len(pieces) > 1
    again = Runs()
    assert decode(b"".join(pieces), again) == sum(map(len, pieces))
    assert again == Runs(runs)
