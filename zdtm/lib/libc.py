"""Calls that Python 3.11 has no wrapper for, by way of the C library. Each raises OSError, named after itself."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_FILES = 0x400
CLONE_PARENT = 0x8000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS = 7, 8
PR_GET_SECUREBITS, PR_SET_SECUREBITS = 27, 28
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_RAISE = 1, 2


def call(name: str, *args: Any) -> int:
    """A function of the C library that gives -1 and errno on failure."""
    result: int = getattr(_libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, *args: int) -> int:
    """prctl(2). Missing arguments are 0: the kernel insists for some options."""
    padded = [ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    return call("prctl", option, *padded)


def get_pdeathsig() -> int:
    """prctl(PR_GET_PDEATHSIG), which stores the signal instead of returning it."""
    signo = ctypes.c_int()
    call("prctl", PR_GET_PDEATHSIG, ctypes.byref(signo), 0, 0, 0)
    return signo.value


def fork_sibling() -> int:
    """fork(), but the new task is a child of the caller's parent: clone(2) with CLONE_PARENT."""
    return _fork_with(CLONE_PARENT)


def fork_sharing_files() -> int:
    """fork(), but the new task shares the caller's table of descriptors: clone(2) with CLONE_FILES."""
    return _fork_with(CLONE_FILES)


def _fork_with(flags: int) -> int:
    """For single-threaded programs only: the C library does not know of this fork."""
    ctypes.set_errno(0)
    syscall = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    return call("syscall", syscall, ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None)


def signalfd(fd: int, signals: Iterable[int], flags: int = 0) -> int:
    """signalfd(2). fd -1 makes a new one, else its mask is replaced."""
    mask = (ctypes.c_ulong * 16)()
    mask[0] = sum(1 << (signo - 1) for signo in signals)
    return call("signalfd", fd, ctypes.byref(mask), flags)
