"""Restores on a kernel with another vDSO: the images are changed into those of one."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from engine.kernel.elf_symbols import dynamic_symbols
from engine.kernel.libc import MACHINE, NR
from engine.tape import arch as architectures
from engine.task import vdso
from engine.task import vma as vmas
from tests.hostile import ward
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PROGRAM = """
import os, time
clocks = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
while True:
    now = [time.clock_gettime_ns(clock) for clock in clocks]
    with open("new", "w") as file:
        print(*now, file=file)
    os.rename("new", "clocks")
    time.sleep(0.001)
"""


class _Images:
    """The images of a process that calls its vDSO all the time. pid: its own."""

    def __init__(self, place: Path) -> None:
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            cwd=place, start_new_session=True, stdin=null, stdout=null, stderr=null,
        )  # fmt: skip
        self.place = place
        self.pid = process.pid
        self.directory = place / "images"
        self.directory.mkdir()
        wait_until(lambda: (place / "clocks").exists(), "the program runs")
        outcome = ward.command("dump", "-t", str(self.pid), "-D", str(self.directory), "-v3", watched=False)
        assert outcome.status == 0, outcome.log
        process.wait()
        with ImageDir(str(self.directory)) as images:
            layout = images.read_one("MM", self.pid)
        self.vdso = next(entry for entry in layout.vmas if entry.status & vmas.VDSO)

    def change(self, change: Callable[[bytearray], None]) -> None:
        """Edit the vDSO in its pages file."""
        with ImageDir(str(self.directory)) as images, PageReader(images, self.pid) as reader:
            ((_, nr_pages, fd, offset),) = reader.segments(self.vdso.start, self.vdso.end)
            content = bytearray(os.pread(fd, nr_pages * 4096, offset))
            change(content)
            with open(f"/proc/self/fd/{fd}", "r+b") as file:
                file.seek(offset)
                file.write(content)

    def restore(self) -> ward.Outcome:
        return ward.command("restore", "-d", "-D", str(self.directory), "-v3", watched=False)

    def clocks(self) -> list[int]:
        return [int(word) for word in (self.place / "clocks").read_text().split()]


def _entry_of(content: bytearray, name: str) -> int:
    """Where the symbol table says where a function is: the only place with its value and a plausible size."""
    offset = dynamic_symbols(bytes(content), MACHINE)[name]
    return content.index(struct.pack("<Q", offset), 64)


def _move_unused(content: bytearray) -> None:
    """The table says that a function which nobody calls is elsewhere. Now it is another kernel's."""
    name = "__vdso_getcpu" if MACHINE == "x86_64" else "__kernel_clock_getres"
    at = _entry_of(content, name)
    (offset,) = struct.unpack_from("<Q", content, at)
    struct.pack_into("<Q", content, at, offset + 16)


def _rename(content: bytearray) -> None:
    at = content.index(b"__vdso_getcpu\0" if MACHINE == "x86_64" else b"__kernel_clock_getres\0")
    content[at + 2 : at + 3] = b"X"


def _await_ticks(images: _Images) -> None:
    before = images.clocks()
    wait_until(lambda: all(then < now for then, now in zip(before, images.clocks(), strict=True)), "all clocks go on")


def _is_gone(pid: int) -> bool:
    """A restored task may have become a child of this process: an earlier test may have made it take in orphans."""
    ward.reap()
    return not os.path.exists(f"/proc/{pid}")


@pytest.fixture
def images(tmp_path: Path) -> _Images:
    return _Images(tmp_path)


def test_bridge(images: _Images) -> None:
    """Clocks go on by way of the running kernel's vDSO, and a restored task can be dumped and restored again."""
    images.change(_move_unused)
    for _ in range(2):
        outcome = images.restore()
        assert outcome.status == 0, outcome.log
        _await_ticks(images)
        with open(f"/proc/{images.pid}/maps") as maps:
            lines = maps.read().splitlines()
        old = next(line for line in lines if line.startswith(f"{images.vdso.start:x}-"))
        assert old.split()[1:] == ["r-xp", "00000000", "00:00", "0"]
        (new,) = (line for line in lines if line.endswith("[vdso]"))
        assert int(new.partition("-")[0], 16) != images.vdso.start
        words = ["dump", "-t", str(images.pid), "-D", str(images.directory), "-v3"]
        outcome = ward.command(*words, watched=False)
        assert outcome.status == 0, outcome.log
        wait_until(lambda: _is_gone(images.pid), "the dumped task is gone")


def test_a_function_that_is_missing_here(images: _Images) -> None:
    images.change(_rename)
    outcome = images.restore()
    assert outcome.status == 1
    assert "this kernel's vDSO lacks __Xdso_getcpu" in outcome.log or "lacks __Xernel" in outcome.log, outcome.log


def test_a_function_that_only_saves_a_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that this kernel's vDSO lacks is called nevertheless, and the entry to enclaves may be missing."""
    monkeypatch.setattr(vdso, "_running_symbols", lambda: {"__vdso_time": 0x700})
    old = {"__vdso_time": 0x100, "__vdso_getrandom": 0x200, "getrandom": 0x200, "__vdso_sgx_enter_enclave": 0x300}
    bridge = vdso._bridge(SimpleNamespace(pid=1), 0x1000, old)  # type: ignore[arg-type]
    assert bridge.jumps == {0x100: 0x700}
    assert bridge.calls == {0x200: NR["getrandom"]}


def test_the_call_that_stands_for_a_function() -> None:
    code = architectures.current().system_call(NR["getrandom"])
    assert len(code) <= len(architectures.current().jump(0))
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        memory.write(code)
        at = ctypes.c_char.from_buffer(memory)
        prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
        function = prototype(ctypes.addressof(at))
        first, second = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
        assert [function(first, 32, 0), function(second, 32, 0)] == [32, 32]
        assert first.raw != second.raw
        assert function(None, 32, 0) == -errno.EFAULT
        del at, function


def test_no_vdso_at_all(images: _Images) -> None:
    images.change(lambda content: content.__setitem__(slice(0, 4), b"\0\0\0\0"))
    outcome = images.restore()
    assert outcome.status == 1
    assert "the vDSO in the images is none" in outcome.log


def test_a_thread_inside(images: _Images) -> None:
    images.change(_move_unused)
    with ImageDir(str(images.directory)) as directory:
        core = directory.read_one("CORE", images.pid)
        if MACHINE == "x86_64":
            core.thread_info.gpregs.ip = images.vdso.start + 0x100
        else:
            core.ti_aarch64.gpregs.pc = images.vdso.start + 0x100
        directory.write("CORE", core, images.pid)
    outcome = images.restore()
    assert outcome.status == 1
    assert f"thread {images.pid} was inside of its vDSO" in outcome.log


def test_the_same_kernel_moves_its_own(images: _Images) -> None:
    outcome = images.restore()
    assert outcome.status == 0, outcome.log
    with open(f"/proc/{images.pid}/maps") as maps:
        assert any(line.startswith(f"{images.vdso.start:x}-") and line.endswith("[vdso]\n") for line in maps)
    os.kill(images.pid, signal.SIGKILL)
