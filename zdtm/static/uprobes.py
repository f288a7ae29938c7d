"""A tracer of the system has probed a function that the program calls, and counts its calls before and after.

states: misc/uprobes-vma
flavours: h
options: --allow-uprobes
pre-dump-options: --allow-uprobes
needs: root, cap CAP_SYS_ADMIN, feature uprobes
outside: Tracer
"""

import ctypes
import os
import platform
import re
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

from zdtm.lib.libc import call
from zdtm.lib.outside import Outside
from zdtm.lib.program import check, equal, ready, run, workdir

SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[platform.machine()]
ATTRIBUTES = struct.Struct("=IIQQQQQIIQQ")
"""struct perf_event_attr as it was first: type, size, config, period, sample_type, read_format, flags, wakeup_events,
bp_type, config1: the address of the path, config2: where in the file"""
EVERYWHERE, CLOEXEC = -1, 8
CALLS = 50
LIBRARY, FUNCTION = "probed.so", "cbrt"


class Mapping(NamedTuple):
    start: int
    end: int
    offset: int
    name: str


def mappings() -> list[Mapping]:
    """Those of this process."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    found = []
    for words in lines:
        start, end = (int(word, 16) for word in words[0].split("-"))
        found.append(Mapping(start, end, int(words[2], 16), " ".join(words[5:])))
    return found


def a_library() -> str:
    """The mathematical part of the C library."""
    ctypes.CDLL("libm.so.6")
    return next(mapping.name for mapping in mappings() if re.search(r"/libm[.-]", mapping.name))


def place_of(path: Path, name: str) -> int:
    """Where in the file a function begins."""
    address = ctypes.cast(getattr(ctypes.CDLL(str(path)), name), ctypes.c_void_p).value
    assert address is not None
    mapping = next(mapping for mapping in mappings() if mapping.start <= address < mapping.end)
    return address - mapping.start + mapping.offset


class Tracer(Outside):
    """Has a counter of each processor open, to which a breakpoint in the function belongs for everybody."""

    def supply(self) -> list[int]:
        path = self.directory / LIBRARY
        if not path.exists():
            shutil.copy(a_library(), path)
        name = ctypes.create_string_buffer(os.fsencode(path))
        kind = int(Path("/sys/bus/event_source/devices/uprobe/type").read_text())
        where = ctypes.addressof(name), place_of(path, FUNCTION)
        attributes = ATTRIBUTES.pack(kind, ATTRIBUTES.size, 0, 0, 0, 0, 0, 0, 0, *where)
        for processor in sorted(os.sched_getaffinity(0)):
            buffer = ctypes.create_string_buffer(attributes)
            self.keep(call("syscall", SYS_PERF_EVENT_OPEN, buffer, EVERYWHERE, processor, -1, CLOEXEC))
        return []

    def check(self) -> None:
        counts = [int.from_bytes(os.read(fd, 8), "little") for fd in self.kept]
        check(sum(counts) >= CALLS, f"{sum(counts)} calls were counted since the restore, of {CALLS}")


def main() -> None:
    directory = workdir()
    function = getattr(ctypes.CDLL(os.path.join(directory, LIBRARY)), FUNCTION)
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    equal(round(function(27.0)), 3, "what the function returns")
    check(any(mapping.name == "[uprobes]" for mapping in mappings()), "there is no probe")
    ready()
    for number in range(CALLS):
        equal(round(function(float(number**3))), number, "what the function returns")


if __name__ == "__main__":
    run(main)
