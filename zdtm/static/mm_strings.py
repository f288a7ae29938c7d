"""What the address space says of the program: arguments, environment, auxiliary vector, executable, and the borders
of code, data, heap and stack.

states: misc/mm-environ-cmdline-auxv-exe
flavours: h
"""

import ctypes
import os
from pathlib import Path

from zdtm.lib.memory import PAGE, peek
from zdtm.lib.program import equal, ready, run

FILES = ("cmdline", "environ", "auxv", "comm")
ADDRESSES = [26, 27, 28, *range(45, 52)]
"""Fields of /proc/PID/stat by their numbers in proc_pid_stat(5): start_code, end_code, start_stack, start_data,
end_data, start_brk, arg_start, arg_end, env_start, env_end"""
STATE = 3
"""Number of the first field after the name"""


def addresses() -> list[int]:
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    return [int(fields[number - STATE]) for number in ADDRESSES]


def main() -> None:
    libc = ctypes.CDLL(None)
    path = os.environb[b"PATH"]
    libc.getenv.restype = ctypes.c_char_p
    libc.sbrk.restype = ctypes.c_void_p
    before = {name: Path("/proc/self", name).read_bytes() for name in FILES}
    borders = addresses()
    executable = os.readlink("/proc/self/exe")
    heap_end = libc.sbrk(0)
    ready()
    for name, contents in before.items():
        equal(Path("/proc/self", name).read_bytes(), contents, f"/proc/self/{name}")
    equal(addresses(), borders, "addresses in /proc/self/stat")
    equal(os.readlink("/proc/self/exe"), executable, "executable")
    equal(libc.getenv(b"PATH"), path, "PATH as the C library finds it")
    equal(libc.sbrk(0), heap_end, "end of the heap")
    equal(libc.sbrk(PAGE), heap_end, "old end of the heap, when it grows")
    equal(peek(heap_end, PAGE), bytes(PAGE), "contents of the new page of the heap")


if __name__ == "__main__":
    run(main)
