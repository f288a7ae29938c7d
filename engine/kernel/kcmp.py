"""kcmp(2): are two tasks' kernel objects the same one? It gives an order, so that many objects are told apart by
bisection rather than pair by pair."""

from __future__ import annotations

import struct

from engine.kernel.libc import NR, syscall

KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND = 0, 1, 2, 3, 4
KCMP_EPOLL_TFD = 7
EQUAL, LESS, GREATER = 0, 1, 2
_EPOLL_SLOT = struct.Struct("<III")


def kcmp(pid1: int, pid2: int, kind: int, index1: int = 0, index2: int = 0) -> int:
    """EQUAL, LESS or GREATER, by an order of kernel addresses that is scrambled but stays the same until reboot.

    index1, index2: the descriptors for KCMP_FILE. Raises OSError: EBADF no such descriptor, ESRCH no such task.
    """
    return syscall(NR["kcmp"], pid1, pid2, kind, index1, index2)


def kcmp_epoll(pid1: int, fd: int, pid2: int, epoll_fd: int, number: int, index: int) -> int:
    """Compare descriptor `fd` of pid1 with what an epoll instance of pid2 watches, in the order of KCMP_FILE.

    The watch is the index-th, from 0, of those that were added under descriptor number `number`, in the order in which
    fdinfo shows them. Raises OSError: ENOENT no such watch.
    """
    import ctypes

    slot = _EPOLL_SLOT.pack(epoll_fd, number, index)
    buffer = ctypes.create_string_buffer(slot, len(slot))
    return syscall(NR["kcmp"], pid1, pid2, KCMP_EPOLL_TFD, fd, ctypes.addressof(buffer))


class KobjIds:
    """Small numbers for one kind of object of many tasks: same number, same object. Number 1 is the engine's own."""

    def __init__(self, kind: int, own_pid: int) -> None:
        self._kind = kind
        self._sorted: list[tuple[int, int]] = [(own_pid, 1)]

    def add(self, pid: int) -> tuple[int, bool]:
        """(number of the object that `pid` has, whether it was not known before)."""
        low, high = 0, len(self._sorted)
        while low < high:
            middle = (low + high) // 2
            known, number = self._sorted[middle]
            order = kcmp(pid, known, self._kind)
            if order == EQUAL:
                return number, False
            if order == LESS:
                high = middle
            else:
                low = middle + 1
        number = len(self._sorted) + 1
        self._sorted.insert(low, (pid, number))
        return number, True
