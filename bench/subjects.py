"""The processes that are measured. Each is a Python program that prints READY and waits."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEP = "import time\nprint('READY', flush=True)\nwhile True: time.sleep(1000)\n"

_WAIT = "print('READY', flush=True)\nimport signal\nwhile True: signal.pause()\n"


def memory(mebibytes: int) -> str:
    """Private memory without two equal pages."""
    return f"""
import os, struct
data = bytearray(os.urandom(1 << 20) * {mebibytes})
for page in range(0, len(data), 4096): struct.pack_into("Q", data, page, page)
{_WAIT}"""


def memory_in_tasks(mebibytes: int, tasks: int) -> str:
    """The same in several tasks."""
    return f"""
import os, signal
for _ in range({tasks}):
    if os.fork() == 0:
        data = os.urandom({mebibytes // tasks} << 20)
        open("part%d" % os.getpid(), "w").close()
        while True: signal.pause()
while len([name for name in os.listdir(".") if name.startswith("part")]) < {tasks}: pass
{_WAIT}"""


def tasks(number: int) -> str:
    """Children that sleep."""
    return f"""
import os, signal
for _ in range({number - 1}):
    if os.fork() == 0:
        while True: signal.pause()
{_WAIT}"""


def threads(number: int) -> str:
    """Threads that sleep."""
    return f"""
import threading
for _ in range({number - 1}): threading.Thread(target=threading.Event().wait, daemon=True).start()
{_WAIT}"""


def descriptors(number: int) -> str:
    """Pipes."""
    return f"""
import os, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
pipes = [os.pipe() for _ in range({number // 2})]
{_WAIT}"""


def mappings(number: int) -> str:
    """One-page mappings that the kernel can't merge."""
    return f"""
import mmap
maps = [mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 1 | 2 * (n % 2)) for n in range({number})]
{_WAIT}"""


@contextlib.contextmanager
def running(program: str) -> Iterator[int]:
    """Start a program and wait for its READY; yields its pid. Whatever bears that pid at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="crucible-bench-") as place:
        out = os.path.join(place, "out")
        with open(out, "w") as file:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", program],
                cwd=place, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        while b"READY" not in _content(out):
            if process.poll() is not None:
                raise RuntimeError(f"the subject failed: {_content(out).decode()}")
            os.sched_yield()
        try:
            yield process.pid
        finally:
            subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
            process.wait()


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
