"""Compiling programs in C: once, and anew when anything that goes into them changes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from zdtm.harness import build, header


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> header.Program:
    """A program that prints a word of a header of its own library."""
    lib = tmp_path / "lib"
    shutil.copytree(build.LIB, lib)
    (lib / "word.h").write_text('#define WORD "one"\n')
    monkeypatch.setattr(build, "LIB", lib)
    monkeypatch.setattr(build, "FRAME", lib / "zdtmtst.c")
    monkeypatch.setattr(build, "CFLAGS", (*build.CFLAGS[:-1], f"-I{lib}"))
    source = tmp_path / "p.c"
    source.write_text('/* X. */\n#include <stdio.h>\n#include "word.h"\nint main(void) { puts(WORD); return 0; }\n')
    return header.read(source)


def says(path: Path) -> str:
    return subprocess.check_output([path], text=True).strip()


def test_compiles_once(program: header.Program, tmp_path: Path) -> None:
    first = build.executable(program, tmp_path / "cache")
    made = first.stat().st_mtime_ns
    assert says(first) == "one"
    assert build.executable(program, tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == made
    assert list((tmp_path / "cache").iterdir()) == [first]


def test_compiles_again_after_a_change(program: header.Program, tmp_path: Path) -> None:
    build.executable(program, tmp_path / "cache")
    (build.LIB / "word.h").write_text('#define WORD "two"\n')
    assert says(build.executable(program, tmp_path / "cache")) == "two"
    program.path.write_text(program.path.read_text().replace("WORD", '"three"'))
    assert says(build.executable(program, tmp_path / "cache")) == "three"


def test_says_what_is_wrong(program: header.Program, tmp_path: Path) -> None:
    program.path.write_text("/* X. */\nint main(void) { int unused; return 0; }\n")
    with pytest.raises(build.CannotBuild, match="unused"):
        build.executable(program, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_compiler(program: header.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.CannotBuild, match="no C compiler"):
        build.executable(program, tmp_path / "cache")
