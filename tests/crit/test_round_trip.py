"""What is decoded and encoded is, byte for byte, what it was."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from engine.crit.decode import decode
from engine.crit.encode import encode
from engine.images.magic import KINDS
from engine.images.runs import encode as encode_runs
from engine.images.schema import message
from tests.crit import anything
from tests.images.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.images.directory import ImageDir

    ThereAndBack = Callable[[Path], str]


def _only_file(images: ImageDir) -> Path:
    from pathlib import Path

    [path] = Path(images.name).iterdir()
    return path


@pytest.mark.parametrize("kind", anything.KINDS_OF_FILES)
def test_every_kind(kind: str, images: ImageDir, there_and_back: ThereAndBack) -> None:
    for seed in range(4):
        anything.write(images, kind, seed)
        there_and_back(_only_file(images))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[0])
def test_samples(sample: tuple[str | int, ...], images: ImageDir, there_and_back: ThereAndBack) -> None:
    SAMPLES[sample](images)
    there_and_back(_only_file(images))


@pytest.mark.parametrize(
    "kind", [name for name in anything.KINDS_OF_FILES if KINDS[name].framing.startswith(("array", "raw"))]
)
def test_no_entries(kind: str, tmp_path: Path, there_and_back: ThereAndBack) -> None:
    """A header alone is an image of those kinds that have any number of entries; so is an empty file, if it is raw."""
    row = KINDS[kind]
    path = tmp_path / (row.pattern.replace("%u", "1").replace("%d", "1"))
    path.write_bytes(row.header)
    there_and_back(path)


def test_the_old_version_without_a_common_magic(tmp_path: Path, there_and_back: ThereAndBack) -> None:
    entry = message("pstree_entry")(pid=1, ppid=0, pgid=1, sid=1, threads=[1]).SerializeToString()
    path = tmp_path / "pstree.img"
    path.write_bytes(KINDS["PSTREE"].header[4:] + struct.pack("<I", len(entry)) + entry)
    assert json.loads(there_and_back(path))["img_version"] == 1


def _fs(*parts: bytes) -> bytes:
    """fs-1.img with an entry made by hand."""
    entry = b"".join(parts)
    return KINDS["FS"].header + struct.pack("<I", len(entry)) + entry


CWD, ROOT, UMASK = b"\x08\x05", b"\x10\x06", b"\x18\x12"


@pytest.mark.parametrize(
    ("entry", "keys"),
    [
        ((CWD, ROOT, UMASK), {"cwd_id", "root_id", "umask"}),
        ((CWD, ROOT, UMASK, b"\xf8\x7f\x01"), {"cwd_id", "root_id", "umask", "@unknown"}),
        ((ROOT, CWD, UMASK), {"cwd_id", "root_id", "umask", "@wire"}),
        ((CWD, CWD, ROOT, UMASK), {"cwd_id", "root_id", "umask", "@wire"}),
        ((b"\x08\x85\x00", ROOT, UMASK), {"cwd_id", "root_id", "umask", "@wire"}),
        ((b"\xf8\x7f\x81\x00", CWD, ROOT), {"cwd_id", "root_id", "@unknown", "@wire"}),
    ],
)
def test_what_protobuf_would_forget(
    entry: tuple[bytes, ...], keys: set[str], tmp_path: Path, there_and_back: ThereAndBack
) -> None:
    """Unknown fields, fields out of order or twice, numbers that are longer than they have to be."""
    path = tmp_path / "fs-1.img"
    path.write_bytes(_fs(*entry))
    assert json.loads(there_and_back(path))["entries"][0].keys() == keys


def test_unknown_fields_stay_when_others_are_changed(tmp_path: Path, back: Callable[[str], bytes]) -> None:
    path, text = tmp_path / "fs-1.img", tmp_path / "text"
    path.write_bytes(_fs(b"\xf8\x7f\x01", CWD, ROOT))
    decode(str(path), str(text))
    changed = text.read_text().replace('"root_id": 6', '"root_id": 7')
    assert back(changed) == _fs(CWD, b"\x10\x07", b"\xf8\x7f\x01")


def test_unknown_values_of_enums(images: ImageDir, there_and_back: ThereAndBack) -> None:
    """To protobuf these are unknown fields."""
    images.write("FDINFO", message("fdinfo_entry")(id=1, flags=0, type=1, fd=3), 2)
    path = _only_file(images)
    data = b"\x08\x01\x10\x00\x18\x01\x18\x55\x20\x03"
    path.write_bytes(KINDS["FDINFO"].header + struct.pack("<I", len(data)) + data)
    assert "@unknown" in there_and_back(path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80", "né€𝄞".encode()])
def test_names_that_are_no_text(name: bytes, images: ImageDir, there_and_back: ThereAndBack) -> None:
    irmap = message("irmap_cache_entry")(dev=1, inode=2, path="X" * len(name))
    images.write("IRMAP_CACHE", irmap)
    path = _only_file(images)
    path.write_bytes(path.read_bytes().replace(b"X" * len(name), name))
    there_and_back(path)


@pytest.mark.parametrize("name", [b"", b"\0abstract", b"/a/path\0", bytes(range(256)), b"a \r\n\t=b\n. ", b"=" * 100])
def test_names_of_sockets(name: bytes, images: ImageDir, there_and_back: ThereAndBack) -> None:
    entry = anything.Anything(1).message("unix_sk_entry")
    entry.name = name
    images.write("UNIXSK", entry)
    there_and_back(_only_file(images))


@pytest.mark.parametrize("kind", ["IPCNS_SHM", "IPCNS_SEM", "IPCNS_MSG"])
def test_padding_with_something_in_it(kind: str, images: ImageDir, there_and_back: ThereAndBack) -> None:
    """What a C program did not clear."""
    SAMPLES[kind, 9](images)
    path = _only_file(images)
    whole = bytearray(path.read_bytes())
    last_zeros = len(whole) - len(whole.rstrip(b"\0"))
    if kind == "IPCNS_SEM":
        whole[-last_zeros + 1 :] = b"\x55" * (last_zeros - 1)
    else:
        at = whole.index(b"shared" if kind == "IPCNS_SHM" else b"one") + (6 if kind == "IPCNS_SHM" else 3)
        assert whole[at : at + 2] == b"\0\0"
        whole[at : at + 2] = b"\x55\x66"
    path.write_bytes(whole)
    assert "@padding" in there_and_back(path)


def test_page_maps_of_every_form(images: ImageDir, there_and_back: ThereAndBack, tmp_path: Path) -> None:
    """Usual entries by the thousand, with others between them; the longest addresses and runs."""
    entry = message("pagemap_entry")
    with images.writer("PAGEMAP", 1) as writer:
        writer.put(message("pagemap_head")(pages_id=1))
        for part in range(4):
            for piece in encode_runs((0x7F0000000000 + (part << 30) + n * 8192, n % 300 + 1, 4) for n in range(8_000)):
                writer.put_payload(piece)
            writer.put(entry(vaddr=0, compat_nr_pages=0, nr_pages=0, flags=0))
            writer.put(entry(vaddr=(1 << 64) - 4096, compat_nr_pages=1, nr_pages=1, flags=4))
            writer.put(entry(vaddr=4096, compat_nr_pages=2, in_parent=True))
            writer.put(entry(vaddr=4096, compat_nr_pages=7, nr_pages=8, flags=6))
            writer.put(entry(vaddr=4096, compat_nr_pages=(1 << 32) - 1, nr_pages=(1 << 32) - 1, flags=255))
            writer.put(entry(vaddr=4097, compat_nr_pages=1, nr_pages=1, flags=4))
            writer.put_raw(bytes.fromhex("0880c000 1001 2004 2801"))
    found = json.loads(there_and_back(_only_file(images)))
    assert len(found["entries"]) == 1 + 4 * 8_007


def test_memory_stays_bounded(images: ImageDir, tmp_path: Path) -> None:
    """32 MiB in a pipe, a ghost file and a page map of 40 000 entries, 24 MiB as dictionaries, through 16 MiB."""
    size = 32 << 20
    with images.writer("PIPES_DATA") as writer:
        writer.put(message("pipe_data_entry")(pipe_id=1, bytes=size))
        for _ in range(32):
            writer.put_payload(bytes(1 << 20))
    with images.writer("GHOST_FILE", 1) as writer:
        writer.put(message("ghost_file_entry")(uid=0, gid=0, mode=0o100600))
        for _ in range(32):
            writer.put_payload(bytes(1 << 20))
    with images.writer("PAGEMAP", 1) as writer:
        writer.put(message("pagemap_head")(pages_id=1))
        for piece in encode_runs((n * 8192, 1, 4) for n in range(40_000)):
            writer.put_payload(piece)
    for name in "pipes-data.img", "ghost-file-1.img", "pagemap-1.img":
        path = f"{images.name}/{name}"
        tracemalloc.start()
        decode(path, str(tmp_path / "text"))
        encode(str(tmp_path / "text"), str(tmp_path / "again"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20, f"{name}: {peak / (1 << 20):.1f} MiB"
        with open(path, "rb") as before, open(tmp_path / "again", "rb") as after:
            while piece := before.read(1 << 20):
                assert piece == after.read(1 << 20)
            assert not after.read(1)
