"""Truncated, lying and hostile images and JSON: one line about what is wrong, no memory for what is not there."""

from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.crit.decode import decode
from engine.crit.encode import encode
from engine.errors import CrError
from engine.images.magic import KINDS
from engine.images.schema import message
from tests.crit import anything
from tests.images.samples import SAMPLES, Sample, every_sample, memory_below, with_changed_bytes, write_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.images.directory import ImageDir

same_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture
def small_memory() -> Iterator[None]:
    with memory_below(16):
        yield


@pytest.fixture
def path(sample: Sample, images: ImageDir) -> Path:
    """The file of a sample."""
    return write_sample(sample, images)


def _survives(path: Path) -> bool:
    """Decode a file: either it comes back as it was, or there is one line about it. Whether it came back."""
    text, again = path.with_name("text"), path.with_name("again")
    try:
        decode(str(path), str(text))
    except CrError as error:
        assert len(error.reasons) == 1
        assert "\n" not in error.message
        assert str(path) in error.message
        assert not text.exists()
        return False
    encode(str(text), str(again))
    assert again.read_bytes() == path.read_bytes()
    text.unlink()
    again.unlink()
    return True


@every_sample
def test_cut_off_at_every_byte(sample: Sample, path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        survived = _survives(path)
        assert not survived or sample[0] not in ("CGROUP", "TCP_STREAM")


@every_sample
@pytest.mark.usefixtures("small_memory")
def test_bytes_changed(sample: Sample, path: Path) -> None:
    for damaged in with_changed_bytes(path.read_bytes()):
        path.write_bytes(damaged)
        _survives(path)


@every_sample
@pytest.mark.usefixtures("small_memory")
def test_every_number_made_huge(sample: Sample, path: Path) -> None:
    whole = path.read_bytes()
    for offset in range(len(whole) - 3):
        path.write_bytes(whole[:offset] + struct.pack("<I", 0x7FFFFFFF) + whole[offset + 4 :])
        _survives(path)


@pytest.mark.parametrize("kind", anything.KINDS_OF_FILES)
@settings(same_directory, max_examples=20)
@given(seed=st.integers(0, 1 << 32), tail=st.binary(max_size=64))
def test_anything_behind_a_good_start(kind: str, seed: int, tail: bytes, images: ImageDir) -> None:
    from pathlib import Path

    anything.write(images, kind, seed)
    [path] = Path(images.name).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: random.Random(seed).randrange(len(whole))] + tail)
    try:
        _survives(path)
    finally:
        path.unlink()


@same_directory
@given(st.binary(max_size=200))
def test_anything_at_all(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    _survives(path)


@pytest.mark.parametrize("entry", [(4, b""), (1 << 31, b""), (0xFFFFFFFF, b"x" * 100)])
@pytest.mark.usefixtures("small_memory")
def test_sizes_that_lie(entry: tuple[int, bytes], tmp_path: Path) -> None:
    path = tmp_path / "pstree.img"
    with path.open("wb") as file:
        file.write(KINDS["PSTREE"].header + struct.pack("<I", entry[0]) + entry[1])
    assert not _survives(path)


@pytest.mark.usefixtures("small_memory")
def test_a_file_that_is_larger_than_any_disk(tmp_path: Path) -> None:
    path = tmp_path / "pstree.img"
    with path.open("wb") as file:
        file.write(KINDS["PSTREE"].header + b"\xff\xff\xff\x7f")
        file.truncate(1 << 40)
    with pytest.raises(CrError, match="an entry claims 2147483647 bytes"):
        decode(str(path), "/dev/null")


@pytest.mark.usefixtures("small_memory")
def test_more_semaphores_than_there_can_be(tmp_path: Path, images: ImageDir) -> None:
    SAMPLES["IPCNS_SEM", 9](images)
    entry = message("ipc_sem_entry")(nsems=1 << 30)
    for field in entry.desc.DESCRIPTOR.fields:
        setattr(entry.desc, field.name, 0)
    with images.writer("IPCNS_SEM", 9) as writer:
        writer.put(entry)
        writer.file.truncate(1 << 40)
    with pytest.raises(CrError, match="it has a set of 1073741824 semaphores, possible are 65536"):
        decode(images.path("IPCNS_SEM", 9), "/dev/null")


GOOD = '{"magic": "FS", "entries": [{"cwd_id": 1, "root_id": 2, "umask": 18}]}'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"it ends where \{ must be \(at character 0\)"),
        ("[]", r"\{ must be here, \[ is"),
        ("{}", 'this is no image: an object with the name of its kind as "magic"'),
        ('{"magic": "FS"}', "this is no image"),
        ('{"magic": "NONE", "entries": []}', "this is no image"),
        ('{"magic": ["FS"], "entries": []}', "this is no image"),
        ('{"magic": "PAGES_OLD", "entries": []}', "this is no image"),
        ('{"magic": "FS", "entries": []}', "there is no entry, an image of this kind has one"),
        ('{"magic": "FS", "entries": {}}', r"\[ must be here, \{ is"),
        ('{"magic": "FS", "entries": [1]}', "an entry must be an object"),
        ('{"magic": "FS", "entries": [{}]}', "entry 1: a fs_entry lacks cwd_id, root_id"),
        ('{"magic": "FS", "img_version": 7, "entries": [{}]}', "images of version 7 are not known"),
        (GOOD[:-5], "this is no JSON: Expecting value"),
        (GOOD[:-1], "it ends where , must be"),
        (GOOD + "x", "something follows what should be all"),
        (GOOD.replace("18", "true1"), "this is no JSON"),
        (GOOD.replace("18", '"x"'), "entry 1: umask: invalid literal for int"),
        (GOOD.replace("18", "1.5"), "entry 1: umask: "),
        (GOOD.replace("18", "-1"), "entry 1: umask: .*out of range"),
        (GOOD.replace("18", "9" * 30), "entry 1: umask: "),
        (GOOD.replace("18", "9" * 5000), "this is no number of an image"),
        (GOOD.replace("18", "null"), "entry 1: umask: "),
        (GOOD.replace("18", "[18]"), "entry 1: umask: "),
        (GOOD.replace("umask", "m\\nsk"), r"entry 1: a fs_entry has no field m\\nsk "),
        (GOOD.replace("umask", "m" * 5000), "entry 1: a fs_entry has no field m{400,}… "),
        (GOOD.replace("umask", "mask"), "entry 1: a fs_entry has no field mask"),
        (GOOD.replace("18", '18, "@unknown": "!"'), "entry 1: no base64"),
        (GOOD.replace("18", '18, "@unknown": "//8="'), "entry 1: the entry: @unknown is no protobuf"),
        (GOOD.replace("18", '18, "extra": ""'), "entry 1: a fs_entry has no field extra"),
        (GOOD.replace("}]", "}, {}]"), "entry 2: an image of this kind has just one"),
        ("[" * 100_000, r"\{ must be here"),
        ('{"magic": "FS", "entries": [{"cwd_id": ' + "[" * 100_000, "it is nested too deeply"),
        ('{"magic": "PIPES_DATA", "entries": [{"pipe_id": 1, "bytes": 2, "extra": "eA=="}]}', "2 bytes follow.* has 1"),
        ('{"magic": "PIPES_DATA", "entries": [{"pipe_id": 1, "bytes": 2}]}', "NoneType where base64 should be"),
        ('{"magic": "PIPES_DATA", "entries": [{"pipe_id": 1, "bytes": 2, "extra": "... <2B>"}]}', "no base64"),
        ('{"magic": "IPTABLES", "entries": [{"extra": "eA==", "x": 1}]}', "just one entry, with nothing but"),
        ('{"magic": "PAGEMAP", "entries": [{"pages_id": 1}, {"vaddr": 1}]}', "entry 2: compat_nr_pages: "),
    ],
)
def test_json_that_is_no_image(text: str, error: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text(text)
    with pytest.raises(CrError, match=error) as raised:
        encode(str(source), str(target))
    assert str(source) in raised.value.message
    assert len(raised.value.message) < 1000
    assert "\n" not in raised.value.message
    assert not target.exists()


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(GOOD.encode() + b"\xff")
    with pytest.raises(CrError, match="this is no JSON: it is not UTF-8 text"):
        encode(str(tmp_path / "source"), "/dev/null")


def test_keys_in_another_order(back: Callable[[str], bytes]) -> None:
    """Other tools sort them."""
    data = json.loads('{"magic": "PIPES_DATA", "entries": [{"pipe_id": 7, "bytes": 5, "extra": "aGVsbG8="}]}')
    backwards = json.dumps({"img_version": 2, **data}, sort_keys=True)
    assert backwards.startswith('{"entries": [{"bytes": 5, "extra"')
    assert back(backwards) == back(json.dumps(data)) == KINDS["PIPES_DATA"].header + b"\4\0\0\0\x08\7\x10\5hello"


@pytest.mark.parametrize("lines", [False, True])
def test_large_strings_before_what_they_belong_to(lines: bool, back: Callable[[str], bytes]) -> None:
    """They go through a file. Some tools write a slash with a backslash before it."""
    import base64

    body = random.Random(1).randbytes(3 << 20)
    text = (base64.encodebytes if lines else base64.b64encode)(body).decode()
    extra = json.dumps(text).replace("/", "\\/")
    image = back(f'{{"magic": "PIPES_DATA", "entries": [{{"extra": {extra}, "bytes": {len(body)}, "pipe_id": 7}}]}}')
    assert image.endswith(body)


@same_directory
@given(st.text(max_size=60), st.integers(0, len(GOOD)), st.integers(0, 20))
def test_anything_within_json(tmp_path: Path, text: str, at: int, cut: int) -> None:
    source = tmp_path / "source"
    source.write_text(GOOD[:at] + text.replace("\ud800", "") + GOOD[at + cut :], errors="replace")
    try:
        encode(str(source), "/dev/null")
    except CrError as error:
        assert str(source) in error.message


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", "UNIXSK CORE MM IPCNS_MSG IPCNS_SEM GHOST_FILE TCP_STREAM PAGEMAP".split())
@settings(same_directory, max_examples=60)
@given(data=st.data())
def test_other_types_than_there_should_be(kind: str, images: ImageDir, tmp_path: Path, data: st.DataObject) -> None:
    """One value somewhere in a good image is replaced by anything else."""
    from pathlib import Path

    anything.write(images, kind, data.draw(st.integers(0, 5)))
    [path] = Path(images.name).iterdir()
    decode(str(path), str(tmp_path / "text"), pretty=data.draw(st.booleans()))
    found = json.loads((tmp_path / "text").read_text())
    place, key = found, "entries"
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 5)):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(_JSON)
    (tmp_path / "text").write_text(json.dumps(found))
    try:
        encode(str(tmp_path / "text"), "/dev/null")
    except CrError as error:
        assert str(tmp_path / "text") in error.message
