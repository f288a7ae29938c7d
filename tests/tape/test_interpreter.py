"""The bytes of the interpreter are those that the assembler makes of the .S file beside them."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ARCH = Path(__file__).parents[2] / "engine/tape/arch"
PACKAGES = {"x86_64": "binutils-x86-64-linux-gnu", "aarch64": "binutils-aarch64-linux-gnu"}


def _tool(machine: str, name: str) -> str:
    """The path of as, objcopy or nm for a machine. Distributions give only the foreign ones the long name."""
    native = [name] if machine == os.uname().machine else []
    found = next(filter(None, map(shutil.which, [f"{machine}-linux-gnu-{name}", *native])), None)
    if found is None:
        pytest.skip(f"{machine}-linux-gnu-{name} is missing (install {PACKAGES[machine]})")
    return found


class Assembled:
    """code: the bytes of .text; labels: their offsets in it."""

    def __init__(self, machine: str, directory: Path) -> None:
        object_file, binary = directory / "arch.o", directory / "arch.bin"
        subprocess.run([_tool(machine, "as"), "-o", object_file, ARCH / f"{machine}.S"], check=True)
        subprocess.run([_tool(machine, "objcopy"), "-O", "binary", "-j", ".text", object_file, binary], check=True)
        names = subprocess.run([_tool(machine, "nm"), object_file], check=True, capture_output=True, text=True).stdout
        self.code = binary.read_bytes()
        self.labels = {label: int(offset, 16) for offset, _, label in map(str.split, names.splitlines())}


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    """Each architecture, whichever this machine is."""
    name: str = request.param
    return name


@pytest.fixture
def assembled(machine: str, tmp_path: Path) -> Assembled:
    return Assembled(machine, tmp_path)


@pytest.fixture
def arch(machine: str) -> Any:
    return importlib.import_module(f"engine.tape.arch.{machine}")


def test_bytes(arch: Any, assembled: Assembled) -> None:
    assert arch.INTERPRETER.hex() == assembled.code.hex()


def test_entry_points(arch: Any, assembled: Assembled) -> None:
    """Tapes start at the first byte, system calls and the way home at BOOT, the table of the way home at the end."""
    assert assembled.labels["next"] == 0
    assert arch.BOOT == assembled.labels["boot"]
    assert len(arch.INTERPRETER) == assembled.labels["table"]


def test_boot_falls_through_to_home(arch: Any, assembled: Assembled) -> None:
    """After the system call at `boot` comes the way home: a task that the engine leaves there takes it by itself."""
    call = {"x86_64": b"\x0f\x05", "aarch64": b"\x01\x00\x00\xd4"}[arch.NAME]
    assert assembled.code[arch.BOOT : assembled.labels["home"]] == call


def test_cave_is_as_long_as_announced(arch: Any) -> None:
    """Visit looks for that much room before it knows the registers."""
    registers = arch.unpack(bytes(8 * {"x86_64": 27, "aarch64": 34}[arch.NAME]))
    vectors = arch.Vectors() if arch.NAME == "x86_64" else arch.Vectors(bytes(528), b"")
    [(_, code)] = arch.way_home(registers, 0, 0x10000, 4096, vectors, 0x7000)
    assert len(code) == len(arch.INTERPRETER) + arch.home_size()
