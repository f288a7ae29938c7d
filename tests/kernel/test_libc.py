"""syscall(): results, errors and wide arguments; the number tables against the compiler's headers and python-ptrace."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from importlib import import_module

import pytest

from engine.kernel.libc import MACHINE, NR, address, syscall
from engine.kernel.syscall_numbers import syscall_numbers
from tests.tools import needs_compiler


def test_result() -> None:
    assert syscall(NR["getpid"]) == os.getpid()


def test_error_names_the_call_and_keeps_its_class() -> None:
    with pytest.raises(ProcessLookupError) as caught:
        syscall(NR["kill"], 2**22 + 1, 0)
    assert caught.value.errno == errno.ESRCH
    assert str(caught.value) == "[Errno 3] kill: No such process"


def test_unknown_number() -> None:
    with pytest.raises(OSError, match=r"\[Errno 38\] system call 9999: "):
        syscall(9999)


def test_arguments_are_not_cut_to_32_bits() -> None:
    fd = os.memfd_create("wide")
    try:
        assert syscall(NR["lseek"], fd, 5 << 32, os.SEEK_SET) == 5 << 32
    finally:
        os.close(fd)


def test_memory_arguments() -> None:
    read_end, write_end = os.pipe()
    buffer = bytearray(8)
    word = ctypes.create_string_buffer(4)
    try:
        assert syscall(NR["write"], write_end, b"abcdefgh", 8) == 8
        assert syscall(NR["read"], read_end, address(memoryview(buffer)[2:]), 4) == 4
        assert syscall(NR["read"], read_end, word, 4) == 4
    finally:
        os.close(read_end)
        os.close(write_end)
    assert bytes(buffer) == b"\0\0abcd\0\0"
    assert word.raw == b"efgh"


def test_numbers_of_this_machine_agree_with_the_headers() -> None:
    needs_compiler()
    macros = subprocess.run(
        ["cc", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    headers = {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+) (\d+)\n", macros)}
    assert len(headers) > 300
    assert {name: NR.get(name) for name in headers} == headers


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_agree_with_python_ptrace(machine: str) -> None:
    names: dict[int, str] = import_module(f"ptrace.syscall.linux.{machine}").SYSCALL_NAMES
    theirs = {name: nr for nr, name in names.items() if nr < 512}  # from 512 on: the x32 ABI
    theirs.pop("timerfd", None)  # its spelling of timerfd_create
    ours = syscall_numbers(machine)
    assert len(theirs) > 290
    assert {name: ours.get(name) for name in theirs} == theirs


def test_no_number_twice() -> None:
    for machine in ("x86_64", "aarch64"):
        numbers = syscall_numbers(machine)
        assert len(set(numbers.values())) == len(numbers)
    assert NR == syscall_numbers(MACHINE)
