"""The command: names, streams, exit status, and one line for whatever is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.images.samples import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from engine.images.directory import ImageDir

CRIT = [sys.executable, "-m", "engine", "crit"]


def crit(*words: str, data: bytes = b"", program: list[str] = CRIT) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*program, *words], input=data, capture_output=True, check=False)


@pytest.fixture
def pstree(images: ImageDir) -> str:
    SAMPLES["PSTREE",](images)
    return images.path("PSTREE")


def test_through_pipes(pstree: str) -> None:
    with open(pstree, "rb") as file:
        image = file.read()
    decoded = crit("decode", data=image)
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    assert json.loads(decoded.stdout)["magic"] == "PSTREE"
    assert crit("encode", data=decoded.stdout).stdout == image


def test_through_files(pstree: str, tmp_path: Path) -> None:
    text, again = tmp_path / "text", tmp_path / "again"
    assert crit("decode", "-i", pstree, "-o", str(text), "--pretty").returncode == 0
    assert crit("encode", "-i", str(text), "-o", str(again)).returncode == 0
    with open(pstree, "rb") as file:
        assert file.read() == again.read_bytes()


def test_onto_itself(pstree: str) -> None:
    assert crit("decode", "-i", pstree, "-o", pstree).returncode == 0
    with open(pstree) as file:
        assert json.load(file)["magic"] == "PSTREE"


def test_show_and_info(pstree: str) -> None:
    shown = crit("show", pstree).stdout
    assert shown == crit("decode", "-i", pstree, "--pretty").stdout
    assert shown.startswith(b'{\n    "magic": "PSTREE",\n    "entries": [\n        {\n            "pid": 1,\n')
    assert json.loads(crit("info", pstree).stdout) == {"magic": "PSTREE", "count": 2}


@pytest.mark.parametrize(
    ("sample", "name", "count"),
    [(("PAGEMAP", 1), "PAGEMAP", 3), (("GHOST_FILE", 31), "GHOST_FILE", 3), (("IPCNS_MSG", 9), "IPCNS_MSG", 3)],
)
def test_info_counts(sample: tuple[str, int], name: str, count: int, images: ImageDir) -> None:
    SAMPLES[sample](images)
    assert json.loads(crit("info", images.path(*sample)).stdout) == {"magic": name, "count": count}


@pytest.mark.parametrize("name", ["crit", "criu crit", "crucible crit"])
def test_by_every_name(name: str, pstree: str) -> None:
    first, *words = name.split()
    start = f"import sys; sys.argv[0] = {first!r}; from engine.cli import main; sys.exit(main())"
    result = crit(*words, "info", pstree, program=[sys.executable, "-c", start])
    assert (result.returncode, result.stderr) == (0, b"")
    helped = crit(*words, "--help", program=[sys.executable, "-c", start])
    assert helped.stdout.startswith(f"usage: {name} [-h]".encode())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "the following arguments are required: VERB"),
        (("nonsense",), "argument VERB: invalid choice: 'nonsense'"),
        (("show",), "the following arguments are required: FILE"),
        (("show", "/nonexistent"), "/nonexistent cannot be read: No such file or directory"),
        (("show", "/"), "/ cannot be read: Is a directory"),
        (("show", "/dev/null"), "/dev/null: it has 0 bytes, no image is that short"),
        (("show", "/proc/self/stat"), "no kind of image has that; raw images are known by name: pages-%u.img"),
        (("decode",), "standard input: it has 0 bytes, no image is that short"),
        (("encode",), "standard input: it ends where { must be"),
        (("decode", "-i", "PSTREE", "-o", "/nonexistent/x"), "/nonexistent/x cannot be written: No such file"),
        (("decode", "-i", "PSTREE", "-o", "/dev/full"), "the output cannot be written: No space left on device"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], error: str, pstree: str) -> None:
    result = crit(*(pstree if word == "PSTREE" else word for word in words))
    assert result.returncode == 1
    assert result.stdout == b""
    assert re.fullmatch(rf"Error \(\S+:\d+\): .*{re.escape(error)}.*\n", result.stderr.decode())


def test_a_failure_leaves_no_file(pstree: str, tmp_path: Path) -> None:
    with open(pstree, "r+b") as file:
        file.truncate(os.path.getsize(pstree) - 1)
    (tmp_path / "old").write_text("as it was")
    for target in "old", "new":
        assert crit("decode", "-i", pstree, "-o", str(tmp_path / target)).returncode == 1
    assert (tmp_path / "old").read_text() == "as it was"
    assert sorted(os.listdir(tmp_path)) == ["images", "old"]


def test_a_reader_that_goes_is_nothing_to_speak_of(images: ImageDir) -> None:
    """As in `crit show FILE | head`."""
    with images.writer("PAGES", 1) as writer:
        writer.put_payload(bytes(4 << 20))
    with subprocess.Popen([*CRIT, "show", images.path("PAGES", 1)], stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
