"""Build ids and dynamic symbols, against what the binutils say; and files that only claim to be ELF."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.kernel.elf import read_build_id
from engine.kernel.elf_symbols import dynamic_symbols
from engine.kernel.libc import MACHINE
from engine.kernel.proc_maps import read_smaps
from tests.tools import needs_compiler

if TYPE_CHECKING:
    from pathlib import Path

OTHER_MACHINE = {"x86_64": "aarch64", "aarch64": "x86_64"}[MACHINE]


def vdso() -> bytes:
    (vma,) = [vma for vma in read_smaps(os.getpid()) if vma.name == "[vdso]"]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), vma.end - vma.start, vma.start)


VDSO = vdso()


@pytest.fixture(params=["gnu", "sysv", "both"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A shared library with some functions, and a hash table of one sort or the other."""
    needs_compiler()
    source = "".join(f"int function_{number}(void) {{ return {number}; }}\n" for number in range(50))
    (tmp_path / "lib.c").write_text(source + "extern int elsewhere(void); int calls(void) { return elsewhere(); }\n")
    output = tmp_path / "lib.so"
    options = ["-shared", "-fPIC", "-nostdlib", f"-Wl,--hash-style={request.param}", "-Wl,--build-id=sha1"]
    # One loaded segment with everything in it, as a vDSO has.
    subprocess.run(["cc", *options, "-Wl,-N", "-o", output, tmp_path / "lib.c"], check=True)
    return output


def symbols_by_nm(path: Path) -> dict[str, int]:
    lines = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    return {name: int(value, 16) for value, name in re.findall(r"(\w+) [^A] (\w+)(?:@\S+)?\n", lines)}


def read_elf_base(path: Path) -> int:
    lines = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    match = re.search(r"LOAD +(0x\w+) (0x\w+)", lines)
    assert match
    return int(match[2], 16) - int(match[1], 16)


def test_symbols_of_a_library(library: Path) -> None:
    base = read_elf_base(library)
    expected = {name: value - base for name, value in symbols_by_nm(library).items()}
    assert {"function_0", "function_49", "calls"} <= expected.keys()
    image = library.read_bytes() + bytes(4096)  # symbols such as _end lie behind the file's last byte
    assert dynamic_symbols(image, MACHINE) == expected


def test_symbols_of_the_vdso(tmp_path: Path) -> None:
    needs_compiler()
    file = tmp_path / "vdso"
    file.write_bytes(VDSO)
    found = dynamic_symbols(VDSO, MACHINE)
    assert {"__vdso_clock_gettime" if MACHINE == "x86_64" else "__kernel_clock_gettime"} <= found.keys()
    base = read_elf_base(file)
    assert found == {name: value - base for name, value in symbols_by_nm(file).items()}


def test_another_machine() -> None:
    with pytest.raises(ValueError, match=f"not for {OTHER_MACHINE}"):
        dynamic_symbols(VDSO, OTHER_MACHINE)


@given(st.binary(max_size=300))
@example(VDSO[:64])
def test_symbols_of_noise(noise: bytes) -> None:
    with pytest.raises(ValueError, match="ELF image"):
        dynamic_symbols(noise, MACHINE)


@settings(max_examples=300)
@given(st.integers(0, len(VDSO) - 1), st.binary(min_size=1, max_size=8))
def test_symbols_of_a_damaged_vdso(at: int, damage: bytes) -> None:
    image = VDSO[:at] + damage + VDSO[at + len(damage) :]
    try:
        symbols = dynamic_symbols(image, MACHINE)
    except ValueError as error:
        assert "ELF image" in str(error)
    else:
        assert all(0 <= offset < len(image) for offset in symbols.values())


@given(st.integers(0, len(VDSO) - 1))
def test_symbols_of_a_cut_vdso(length: int) -> None:
    try:
        dynamic_symbols(VDSO[:length], MACHINE)
    except ValueError as error:
        assert "ELF image" in str(error)


def build_id_of(content: bytes) -> bytes:
    fd = os.memfd_create("elf")
    try:
        os.write(fd, content)
        position = os.lseek(fd, 7, os.SEEK_SET)
        found = read_build_id(fd)
        assert os.lseek(fd, 0, os.SEEK_CUR) == position
        return found
    finally:
        os.close(fd)


def test_build_id(library: Path) -> None:
    notes = subprocess.run(["readelf", "-nW", library], capture_output=True, text=True, check=True).stdout
    match = re.search(r"Build ID: (\w+)", notes)
    assert match
    assert build_id_of(library.read_bytes()).hex() == match[1]


def test_no_build_id(tmp_path: Path) -> None:
    needs_compiler()
    (tmp_path / "lib.c").write_text("int nothing;\n")
    output = tmp_path / "lib.so"
    subprocess.run(["cc", "-shared", "-nostdlib", "-Wl,--build-id=none", "-o", output, tmp_path / "lib.c"], check=True)
    assert build_id_of(output.read_bytes()) == b""
    for content in (b"", b"\x7fELF", b"#!/bin/sh\n", bytes(4096), b"\x7fELF\x02\x01\x01" + b"\xff" * 500):
        assert build_id_of(content) == b""


@settings(max_examples=300)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_build_id_of_a_damaged_file(at: int, damage: bytes) -> None:
    assert len(build_id_of(VDSO[:at] + damage + VDSO[at + len(damage) :])) <= 64


def elf_with_note(size: int, build_id: bytes) -> bytes:
    """An ELF file of one note segment that claims to have `size` bytes."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, size, size, 4)
    return header + segment + struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id


def test_limits_of_notes_and_build_ids() -> None:
    assert build_id_of(elf_with_note(100, b"abcd")) == b"abcd"
    assert build_id_of(elf_with_note(1 << 40, b"abcd")) == b""
    assert build_id_of(elf_with_note(100, b"x" * 64)) == b"x" * 64
    assert build_id_of(elf_with_note(100, b"x" * 68)) == b""
