"""The guard, without a restore."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket

from engine.kernel import userfaultfd
from engine.kernel.libc import NR, syscall
from engine.lazy import guard
from tests.waiting import wait_until


def _touch_missing(told: socket.socket) -> None:
    """Have a page watched by who gets the descriptor, and touch it."""
    area = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page = ctypes.addressof(ctypes.c_char.from_buffer(area))
    fd = syscall(NR["userfaultfd"], os.O_CLOEXEC | os.O_NONBLOCK)
    userfaultfd.open_api(fd, userfaultfd.FEATURE_EVENTS | userfaultfd.FEATURE_THREAD_ID)
    userfaultfd.register_missing(fd, page, page + mmap.PAGESIZE)
    socket.send_fds(told, [b"!"], [fd])
    os.close(fd)
    area.read(1)


def _end_after_reading(told: socket.socket) -> None:
    """Read the fault, as the daemon does, and go on as the guard does when the daemon has died."""
    _, (fd,), _, _ = socket.recv_fds(told, 1, 1)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
    assert [message.kind for message in userfaultfd.read(fd)] == [userfaultfd.PAGEFAULT]
    guard.end_tasks()


def test_fault_that_the_daemon_had_read() -> None:
    """It is told once, and yet who waits for the page dies."""
    ends = socket.socketpair()
    children = []
    for act, end in zip((_touch_missing, _end_after_reading), ends, strict=True):
        pid = os.fork()
        if not pid:
            try:
                act(end)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    for end in ends:
        end.close()
    died: dict[int, int] = {}

    def all_have() -> bool:
        died.update(os.waitpid(pid, os.WNOHANG) for pid in children if pid not in died)
        died.pop(0, None)
        return len(died) == len(children)

    try:
        wait_until(all_have, "both have ended", lambda: str(died))
    finally:
        for pid in set(children) - set(died):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert [died[pid] for pid in children] == [signal.SIGKILL, 0]
