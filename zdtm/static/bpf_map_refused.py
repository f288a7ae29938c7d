"""A BPF map whose content is more than keys and values, a ring buffer, is refused by its kind.

states: misc/bpf-maps
flavours: h
needs: root, cap CAP_BPF
expect: refuse (?i)a BPF map of the kind ring buffer.*close it
"""

import ctypes
import mmap
import platform
import struct

from zdtm.lib.libc import call
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import equal, ready, run

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
MAP_CREATE, TYPE_RINGBUF = 0, 27


def main() -> None:
    attributes = struct.pack("=IIII", TYPE_RINGBUF, 0, 0, mmap.PAGESIZE)
    fd = call("syscall", SYS_BPF, MAP_CREATE, ctypes.create_string_buffer(attributes, 128), 128)
    before = fdinfo(fd)
    ready()
    equal(fdinfo(fd), before, "the map")


if __name__ == "__main__":
    run(main)
