"""Images of real dumps: all of them come back byte for byte; tables, and what a restore would need."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.crit.diff import diff
from engine.crit.explore import TABLES, explore
from engine.crit.identify import by_name
from engine.crit.image_set import ImageSet
from engine.crit.verify import verify
from engine.errors import CrError
from tests.crit.puppet import crit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crit.puppet import Puppet


def test_every_image_of_a_dump_comes_back(rich: str, there_and_back: Callable[[Path], str]) -> None:
    names = sorted(set(os.listdir(rich)) - {"dump.log"})
    assert len(names) > 25
    for name in names:
        assert by_name(name) is not None, name
        there_and_back(Path(rich) / name)


def _rows(directory: str, what: str) -> list[tuple[object, ...]]:
    with ImageSet(directory) as images:
        return list(TABLES[what][1](images))


def test_tasks(rich: str) -> None:
    rows = _rows(rich, "ps")
    root = rows[0][0]
    assert [row[1:2] + row[4:] for row in rows] == [
        (0, 2, "running", "python"), (root, 1, "running", "  python"), (root, 1, "zombie", "  python")
    ]  # fmt: skip
    assert [row[3] for row in rows] == [root] * 3


def test_descriptors(rich: str) -> None:
    place = str(Path(rich).parent / "subject")
    rows = _rows(rich, "fds")
    root = rows[0][0]
    found = {(kind, what) for pid, _, kind, what in rows if pid == root}
    assert {
        ("device", "/dev/null"), ("file", f"{place}/plain"), ("file", f"{place}/small (deleted)"),
        ("fifo", f"{place}/fifo"), ("memfd", "memfd:memory"), ("eventfd", "counter 5"), ("pidfd", "a dead task"),
        ("signalfd", "signals 0x200"), ("unix", "STREAM LISTEN listener"), ("directory", place), ("directory", "/"),
    } <= found  # fmt: skip
    assert ("cwd", "root", "exe") == tuple(number for pid, number, _, _ in rows if pid == root)[-3:]


def test_mappings_and_pages(rich: str) -> None:
    place = Path(rich).parent / "subject"
    mappings, pages = _rows(rich, "mems"), _rows(rich, "rss")
    root = mappings[0][0]
    assert [row[2:] for row in mappings if row[0] == root and row[4] == f"{place}/plain"] == [
        (prot, 8, f"{place}/plain") for prot in sorted(("rw-s", "rw-p"), reverse=mappings_shared_first(mappings, place))
    ]
    assert any(row[4] == "[heap]" for row in mappings)
    [total] = [row[3] for row in pages if row[:2] == (root, "all")]
    assert total == sum(int(str(row[3])) for row in pages if row[0] == root and row[1] != "all")
    with ImageSet(rich) as images, images.images.reader("PAGES", 1) as reader:
        assert total in (reader.size // 4096, *(_size(rich, number) // 4096 for number in (2, 3, 4)))


def mappings_shared_first(rows: list[tuple[object, ...]], place: Path) -> bool:
    """Which of the two mappings of one file has the lower address is up to the kernel."""
    return next(row[2] for row in rows if row[4] == f"{place}/plain") == "rw-s"


def _size(directory: str, pages_id: int) -> int:
    path = f"{directory}/pages-{pages_id}.img"
    return os.path.getsize(path) if os.path.exists(path) else 0


def test_sockets(rich: str) -> None:
    found = {row[2:4] + row[5:7] for row in _rows(rich, "sk")}
    assert {
        ("STREAM", "LISTEN", 0, "listener"), ("DGRAM", "ESTABLISHED", 8, "-"), ("STREAM", "ESTABLISHED", 21, "-"),
        ("DGRAM", "CLOSE", 0, "bound"),
    } <= found  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
def test_tables_are_text_in_a_pipe(rich: str, what: str) -> None:
    result = crit("x", rich, what)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == [name.removeprefix(">") for name in TABLES[what][0].split()]
    assert "\x1b" not in result.stdout
    assert not any(line != line.rstrip() for line in lines)


def test_names_do_not_reach_a_terminal_as_they_are(rich: str, tmp_path: Path) -> None:
    """A name in an image may have anything in it."""
    evil = tmp_path / "evil"
    shutil.copytree(rich, evil)
    data = (evil / "files.img").read_bytes()
    (evil / "files.img").write_bytes(data.replace(b"/subject/plain", b"/subject/\x1b[2Jx"))
    for what in "fds", "mems", "rss":
        result = crit("x", str(evil), what)
        assert "\x1b" not in result.stdout
        assert "\\x1b[2Jx" in result.stdout


@pytest.mark.parametrize("what", TABLES)
def test_sets_that_are_none(what: str, rich: str, tmp_path: Path) -> None:
    for directory in tmp_path, tmp_path / "nothing":
        result = crit("x", str(directory), what)
        assert result.returncode == 1
        assert re.fullmatch(r"Error \(\S+\): .*(missing|cannot be opened).*\n", result.stderr)


@pytest.mark.parametrize("part", range(6))
def test_damaged_sets(part: int, rich: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes changed anywhere but in pages: there may be errors, in words, and there may be wrong tables, no more."""
    rng, damaged = random.Random(part), tmp_path / "damaged"
    shutil.copytree(rich, damaged)
    names = sorted(path.name for path in damaged.glob("*.img") if not path.name.startswith("pages-"))
    for _ in range(12):
        path = damaged / rng.choice(names)
        whole = path.read_bytes()
        changed = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            changed[rng.randrange(8, len(whole))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(changed)
        works = [partial(explore, str(damaged), what) for what in TABLES]
        for work in *works, partial(diff, rich, str(damaged)), partial(verify, str(damaged), ["--file-locks"]):
            with contextlib.suppress(CrError):
                work()
        capfd.readouterr()
        path.write_bytes(whole)


# What a restore would need


def _snapshot(directory: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        found[str(path)] = status.st_mtime_ns, status.st_ctime_ns, status.st_size
    return found


def test_a_set_that_can_be_restored(fresh: str) -> None:
    place = Path(fresh).parent
    before = _snapshot(place)
    result = crit("verify", fresh, "--link-remap", "--file-locks")
    assert (result.returncode, result.stderr) == (0, "")
    assert _snapshot(place) == before
    assert re.search(r"^\d+ images, \d+ bytes: 3 tasks with 3 threads, \d+ files\.$", result.stdout, re.MULTILINE)
    assert re.search(r"^ *\d+  python, thread of \d+ +free$", result.stdout, re.MULTILINE)
    assert re.search(rf"^ok +9000  - +{place}/subject/plain$", result.stdout, re.MULTILINE)
    assert re.search(rf"^in images +11  - +{place}/subject/small$", result.stdout, re.MULTILINE)
    assert re.search(r"^ok +\d+  [0-9a-f]{40} +/.*python", result.stdout, re.MULTILINE)
    assert "\n  clone3_set_tid\n" in result.stdout


def test_pids_in_use(puppet: Puppet, tmp_path: Path) -> None:
    result = crit("verify", puppet.dump(tmp_path / "images", "-R"))
    assert result.returncode == 1
    assert f"): pid {puppet.pid} is in use (end the process that has it)\n" in result.stderr
    assert re.search(rf"^ *{puppet.pid}  .* in use$", result.stdout, re.MULTILINE)


def _core(images: Path) -> str:
    return next(path.name for path in images.glob("core-*"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda images: os.unlink(images / _core(images)), r"core-\d+\.img \(CORE image\) is missing"),
        (lambda images: os.unlink(images / "files.img"), r"files\.img \(FILES image\) is missing"),
        (lambda images: os.unlink(images / "pages-1.img"), r"pages-1\.img \(PAGES image\) is missing"),
        (lambda images: os.truncate(images / "pages-1.img", 0), r"pages-1\.img: it has 0 bytes, but .* puts"),
        (
            lambda images: os.truncate(images / "pages-1.img", os.path.getsize(images / "pages-1.img") + 4096),
            r"pages-1\.img has \d+ bytes, .* puts \d+ there",
        ),
        (lambda images: os.truncate(images / "pipes-data.img", 15), r"pipes-data\.img: an entry claims"),
        (
            lambda images: shutil.copy(images / _core(images), images / "core-4194000.img"),
            r"core-4194000\.img belongs to nothing in these images",
        ),
        (
            lambda images: shutil.copy(images / "pages-1.img", images / "pages-77.img"),
            r"pages-77\.img belongs to nothing in these images",
        ),
        (lambda images: os.unlink(images / "ghost-file-1.img"), r"ghost-file-1\.img \(GHOST_FILE image\) is missing"),
        (lambda images: (images / "tty-info.img").write_bytes(b"nonsense"), r"tty-info\.img: its magic is 0x736e6f6e"),
        (
            lambda images: os.rename(images.parent / "subject/plain", images.parent / "subject/elsewhere"),
            r"/subject/plain: No such file or directory",
        ),
    ],
)
def test_what_stands_against_a_restore(
    damage: Callable[[Path], object], reason: str, rich: str, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(rich, images)
    (tmp_path / "subject").symlink_to(Path(rich).parent / "subject")
    try:
        damage(images)
        result = crit("verify", str(images), "--link-remap", "--file-locks")
    finally:
        elsewhere = tmp_path / "subject/elsewhere"
        if elsewhere.exists():
            elsewhere.rename(tmp_path / "subject/plain")
    assert result.returncode == 1
    assert re.search(reason, result.stderr), result.stderr
    assert all(line.startswith("Error (") for line in result.stderr.splitlines())
    assert "internal error" not in result.stderr
