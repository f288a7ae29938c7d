"""The process trees that are measured. All their processes close descriptor READY when they are ready, and sleep."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

from engine.kernel.libc import NR, syscall

if TYPE_CHECKING:
    from collections.abc import Iterator

READY = 3
_WAIT = f"""
import os, signal
os.close({READY})
while True: signal.pause()
"""
_PR_SET_CHILD_SUBREAPER = 36


def sleep() -> list[str]:
    """A small program in C."""
    return ["sh", "-c", f"exec {READY}>&- sleep 100000"]


def python() -> list[str]:
    """An interpreter that has done nothing."""
    return _program("")


def memory(mebibytes: int, tasks: int = 1) -> list[str]:
    """Private memory without two equal pages, all in one task or in equal parts in as many children."""
    fill = f"""
import os, struct
def fill():
    global data
    data = bytearray(os.urandom(1 << 20) * {mebibytes // tasks})
    for page in range(0, len(data), 4096): struct.pack_into("Q", data, page, page)
"""
    if tasks == 1:
        return _program(f"{fill}\nfill()")
    return _program(f"""{fill}
for _ in range({tasks}):
    if os.fork() == 0:
        fill()
        break
""")


def random_reader(mebibytes: int) -> list[str]:
    """Private memory. At SIGUSR1 every page of it is read once, in no order, and the file `took`, a symbolic link, says
    how many seconds that has taken."""
    return _program(f"""
import array, os, random, signal, time
data = bytearray(os.urandom(1 << 20) * {mebibytes})
places = array.array("Q", range(0, len(data), 4096))
random.shuffle(places)
def read(*_):
    start = time.perf_counter()
    for place in places: data[place]
    os.symlink(str(time.perf_counter() - start), "took")
signal.signal(signal.SIGUSR1, read)
""")


def tasks(number: int) -> list[str]:
    """A parent and children that are programs of their own."""
    return _program(f"""
import os
def sleeps(pid):
    with open(f"/proc/{{pid}}/stat") as stat: return stat.read().rpartition(") ")[2].startswith("S")
actions = [(os.POSIX_SPAWN_CLOSE, {READY})]
words = ["sleep", "100000"]
children = [os.posix_spawnp("sleep", words, os.environ, file_actions=actions) for _ in range({number - 1})]
while not all(map(sleeps, children)): pass
""")


def threads(number: int) -> list[str]:
    """Threads that wait for a lock."""
    return _program(f"""
import threading
for _ in range({number - 1}): threading.Thread(target=threading.Event().wait, daemon=True).start()
""")


def descriptors(number: int) -> list[str]:
    """Pipes."""
    return _program(f"""
import os, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
pipes = [os.pipe() for _ in range({number // 2})]
""")


def mappings(number: int) -> list[str]:
    """One-page mappings that the kernel can't merge, every second one with content."""
    return _program(f"""
import mmap
maps = [mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 1 | 2 * (n % 2)) for n in range({number})]
for area in maps[1::2]: area[0] = 1
""")


def _program(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text + _WAIT]


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[int]:
    """Start a subject, wait until it is ready and yield its pid. What bears that pid at the end is killed, with its
    children. Orphans become ours, so that what has been restored can be waited for."""
    syscall(NR["prctl"], _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    read_end, write_end = os.pipe()
    with tempfile.TemporaryDirectory(prefix="crucible-bench-") as place:
        pid = os.fork()
        if not pid:
            _become(words, place, write_end)
        os.close(write_end)
        try:
            os.read(read_end, 1)
            yield pid
        finally:
            os.close(read_end)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            await_end(pid)


def _become(words: list[str], place: str, ready: int) -> None:
    """In the child: a session of its own, no descriptors but those that it is to have."""
    try:
        os.setsid()
        os.chdir(place)
        os.dup2(ready, READY)
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(READY):
            os.dup2(null, number)
        os.closerange(READY + 1, os.sysconf("SC_OPEN_MAX"))
        os.execvp(words[0], words)
    finally:
        os._exit(127)


def await_end(pid: int) -> None:
    """Until the pids of a dumped tree can be used again: this process has to wait for its root, and for the orphans."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-pid, 0)
