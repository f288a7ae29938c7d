"""The one door to the system calls that Python's os module does not have.

    syscall(NR["kcmp"], pid1, pid2, KCMP_FILE, fd1, fd2)

ctypes costs 5 ms to import. The first call pays for it, not the import of this module.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.kernel.syscall_numbers import syscall_numbers

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from typing import TypeAlias

    # A word, or memory handed to the kernel: bytes (read by it), a ctypes object or byref() of one (written by it).
    Argument: TypeAlias = int | bytes | None | ctypes.Array[Any] | ctypes._CArgObject


def _machine() -> str:
    """The architecture of this interpreter's system calls.

    Under personality(PER_LINUX32) uname(2) tells even a 64-bit program a 32-bit name.
    """
    machine = os.uname().machine
    return {"i686": "x86_64", "armv8l": "aarch64"}.get(machine, machine)


MACHINE = _machine()
NR = syscall_numbers(MACHINE)


@cache
def _entry() -> Callable[..., int]:
    """syscall(2) of the C library, typed so that no argument is cut to the 32 bits of a C int."""
    import ctypes

    entry = ctypes.CDLL(None, use_errno=True).syscall
    entry.restype = ctypes.c_long
    entry.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 6
    return entry


def syscall(number: int, *args: Argument) -> int:
    """Make one system call and return its result. Costs about 1 µs on top of the call itself.

    number  an item of NR
    args    at most six; integers of either sign, bytes, None for NULL, ctypes objects
    Raises OSError with the errno, and the name of the call in its text; EINTR is not retried.
    """
    result = _entry()(number, *args, *(0,) * (6 - len(args)))
    if result == -1:
        import ctypes

        raise syscall_error(number, ctypes.get_errno())
    return result


def syscall_error(number: int, error: int) -> OSError:
    """OSError of the subclass that fits, saying which call failed: "[Errno 3] kcmp: No such process"."""
    name = next((name for name, nr in NR.items() if nr == number), f"system call {number}")
    return OSError(error, f"{name}: {os.strerror(error)}")


def address(buffer: bytearray | memoryview) -> ctypes.Array[ctypes.c_char]:
    """The memory of a writable buffer as an Argument; it cannot be resized while the result is alive."""
    import ctypes

    return (ctypes.c_char * len(buffer)).from_buffer(buffer)
