"""A page server believes nothing, and keeps nothing of what has not been said to be complete."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.images.directory import ImageDir
from engine.images.runs import LAZY, PARENT, PRESENT
from engine.transport.protocol import SIZE, Command, PageMessage
from tests.transport.conftest import PAGE, Served, opening, run_of, stored

_A, _B, _C = (bytes([letter]) * PAGE for letter in b"abc")
_DONE = bytes(4)
_HAS_NO_PARENT, _HAS_PARENT = b"\0", b"\1"
_TWO_PAGE_MAPS = [
    opening(7), run_of(0x1000, 2, PRESENT), _A + _B, run_of(0x5000, 9, LAZY), run_of(0x20000, 1, PRESENT | LAZY), _C,
    opening(8, Command.OPEN, "SHMEM_PAGEMAP"), PageMessage(Command.ADD, 0, 1, 0), _B,
]  # fmt: skip


def test_two_page_maps(served: Served) -> None:
    served.say(*_TWO_PAGE_MAPS)
    assert served.close() == _HAS_NO_PARENT + _DONE
    assert served.problem is None
    assert served.left() == ["pagemap-7.img", "pagemap-shmem-8.img", "pages-65537.img", "pages-65538.img"]
    assert stored(served.images, 7) == {0x1000: _A, 0x2000: _B, 0x20000: _C}
    assert stored(served.images, 8, "SHMEM_PAGEMAP") == {0: _B}


def _with_parent(tmp_path: Path) -> Path:
    parent = Served(tmp_path / "parent")
    parent.say(opening(7), run_of(0x1000, 3, PRESENT), _A + _B + _C)
    parent.close()
    images = tmp_path / "images"
    images.mkdir()
    (images / "parent").symlink_to("../parent")
    return images


def test_pages_of_the_parent(tmp_path: Path) -> None:
    """In the words of today, and of older versions."""
    images = _with_parent(tmp_path)
    for hole in run_of(0x2000, 2, PARENT), PageMessage(Command.HOLE, 0, 2, 0x2000):
        child = Served(images)
        child.say(opening(7, Command.PARENT), opening(9, Command.PARENT), opening(7), run_of(0x1000, 1, PRESENT), _B)
        child.say(hole)
        assert child.close() == b"\1\0\0\0" + bytes(4) + _HAS_PARENT + _DONE
        assert stored(images, 7) == {0x1000: _B, 0x2000: _B, 0x3000: _C}


def test_the_parent_gives_up_what_came_again(tmp_path: Path) -> None:
    """Not before all is there."""
    images = _with_parent(tmp_path)
    pages = tmp_path / "parent/pages-65537.img"
    child = Served(images, auto_dedup=True)
    child.say(opening(7), run_of(0x1000, 1, PRESENT), _B, run_of(0x2000, 2, PARENT))
    child.end()
    assert pages.read_bytes() == _A + _B + _C
    child = Served(images, auto_dedup=True)
    child.say(opening(7), run_of(0x1000, 1, PRESENT), _B, run_of(0x2000, 2, PARENT))
    child.close()
    assert pages.read_bytes() == bytes(PAGE) + _B + _C
    assert stored(images, 7) == {0x1000: _B, 0x2000: _B, 0x3000: _C}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([run_of(0x1000, 1, PRESENT)], "pages of nothing"),
        ([opening(7), opening(7)], "twice"),
        ([opening(7), run_of(0x1000, 1, PRESENT), _A, run_of(0x1000, 1, PRESENT)], "comes after"),
        ([opening(7), run_of(0x1234, 1, PRESENT)], "page boundary"),
        ([opening(7), run_of(0x1000, 0, PRESENT)], "empty"),
        ([opening(7), run_of(0x1000, 1 << 60, PRESENT)], "beyond the end"),
        ([opening(7), run_of(0x1000, 1, 8)], "unknown flags"),
        ([opening(7), run_of(0x1000, 1, 0)], "nowhere"),
        ([opening(7), run_of(0x1000, 1, PARENT)], "left to parent images that don't have all of it"),
        ([PageMessage(Command.OPEN, destination=0)], "can't be"),
        ([PageMessage(Command.OPEN2, destination=7 << 8 | 99)], "can't be"),
        ([PageMessage(Command.GET, 0, 1, 0x1000, 7)], "asks for 7"),
        ([PageMessage(77)], "asks for 77"),
    ],
)
def test_refusals(served: Served, said: list[PageMessage | bytes], why: str) -> None:
    served.say(*said)
    served.end()
    assert why in str(served.problem)
    assert served.left() == []


@pytest.mark.parametrize(("vaddr", "nr_pages"), [(0x1000, 4), (0x10000, 1)])
def test_more_of_the_parent_than_it_has(tmp_path: Path, vaddr: int, nr_pages: int) -> None:
    child = Served(_with_parent(tmp_path))
    child.say(opening(7), run_of(vaddr, nr_pages, PARENT))
    child.close()
    assert "left to parent images" in str(child.problem)
    assert child.left() == ["parent"]


def test_a_client_that_dies_at_any_point(tmp_path: Path) -> None:
    stream = b"".join(part.encode() if isinstance(part, PageMessage) else part for part in _TWO_PAGE_MAPS)
    close = PageMessage(Command.CLOSE).encode()
    for number, end in enumerate([*range(0, len(stream), 509), *range(len(stream), len(stream) + SIZE)]):
        served = Served(tmp_path / str(number))
        served.say((stream + close)[:end])
        served.end()
        assert "too early" in str(served.problem) or "has ended the connection" in str(served.problem)
        assert served.left() == [], f"after {end} bytes"


def test_an_older_set_is_none_any_more(tmp_path: Path) -> None:
    """Its page maps are replaced, and are gone if that fails. A client that opens nothing does it no harm."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "inventory.img").write_bytes(b"an inventory")
    (images / "pagemap-7.img").write_bytes(b"an old one")
    harmless = Served(images)
    harmless.say(opening(7, Command.PARENT))
    harmless.end()
    assert harmless.left() == ["inventory.img", "pagemap-7.img"]
    served = Served(images)
    served.say(opening(7), run_of(0x1000, 1, PRESENT), _A[:-1])
    served.end()
    assert served.left() == []


def test_names_do_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in "pagemap-7.img", "pages-65537.img":
        (images / name).symlink_to(tmp_path / "outside")
    served = Served(images)
    served.say(opening(7), run_of(0x1000, 1, PRESENT), _A)
    served.close()
    assert served.problem is None
    assert not (tmp_path / "outside").exists()


def test_a_client_that_says_nothing(tmp_path: Path) -> None:
    served = Served(tmp_path / "images", patience=0.05)
    served.say(opening(7), run_of(0x1000, 1, PRESENT), _A[:100])
    served._thread.join()
    assert "the client says nothing any more, 0.05 seconds were waited" in str(served.problem)
    served.end()
    assert served.left() == []


_NUMBERS = st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1), st.just(7 << 8 | 1), st.just(0x1000))
_MESSAGES = st.builds(
    PageMessage,
    st.one_of(st.sampled_from([int(command) for command in Command]), st.integers(0, 0xFFFF)),
    st.one_of(st.integers(0, 7), st.integers(0, 0xFFFF)),
    _NUMBERS, _NUMBERS, st.one_of(st.integers(1, 3).map(lambda pid: pid << 8 | 1), _NUMBERS),
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.one_of(_MESSAGES, st.binary(max_size=40), st.just(_A)), max_size=8))
def test_any_bytes(said: list[PageMessage | bytes]) -> None:
    """Either all has been said to be complete, and the images are sound, or nothing is left and it is said why."""
    with TemporaryDirectory() as name:
        served = Served(Path(name))
        try:
            served.say(*said)
        except OSError:
            pass  # the server has had enough
        answer = served.end()
        if served.problem:
            assert served.left() == []
            return
        assert answer.endswith(_DONE)
        with ImageDir(name) as images:
            for pid in images.ids("PAGEMAP"):
                stored(Path(name), pid)
        assert sum(os.path.getsize(Path(name, entry)) for entry in served.left()) < 1 << 20
