"""A process that a test looks at: a piece of Python that says what it has made, then waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import IO, Any, cast

# What every subject may use. tell() reports facts to the test and waits until the test lets it go on.
_PRELUDE = '''
import ctypes, json, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
for name in ("munmap", "mprotect", "madvise"):
    getattr(libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def check(result):
    if result in (-1, 2**64 - 1):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result

def map(size, prot=3, flags=0x22, fd=-1, offset=0):
    """A mapping with a page before and behind it that keeps it from being merged with another one. No huge pages,
    whatever this machine's policy is, unless they are asked for."""
    PROT_EXEC, MAP_FIXED, MAP_HUGETLB = 4, 0x10, 0x40000
    if flags & MAP_HUGETLB:
        return check(libc.mmap(None, size, prot, flags, fd, offset))
    room = check(libc.mmap(None, size + 2 * mmap.PAGESIZE, PROT_EXEC, 0x22, -1, 0))
    area = check(libc.mmap(room + mmap.PAGESIZE, size, prot, flags | MAP_FIXED, fd, offset))
    libc.madvise(area, size, 15)  # MADV_NOHUGEPAGE, an error where the kernel has none
    return area

def wait_for_the_end():
    """What a child of the subject does; it must not outlive the test."""
    os.read(0, 1)
    os._exit(0)

def tell(**facts):
    print(json.dumps(facts), flush=True)
    if not sys.stdin.readline():
        sys.exit()

'''


class Subject:
    """facts: what it told last."""

    def __init__(self, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PRELUDE + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self._process.pid
        self.facts = self._listen()

    def go_on(self) -> dict[str, Any]:
        """Let it run to its next tell()."""
        stdin = cast("IO[bytes]", self._process.stdin)
        stdin.write(b"\n")
        stdin.flush()
        self.facts = self._listen()
        return self.facts

    def stop(self) -> None:
        """Stop it by a signal: nothing changes any more, not even what the end of tell() would touch."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def _listen(self) -> dict[str, Any]:
        line = cast("IO[bytes]", self._process.stdout).readline()
        if not line:
            self.kill()
            raise AssertionError("the subject has died; its traceback is in the captured output")
        return cast("dict[str, Any]", json.loads(line))

    def kill(self) -> None:
        """End it and leave no zombie."""
        self._process.kill()
        self._process.communicate()
