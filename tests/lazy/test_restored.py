"""What is left empty for the daemon is empty, whoever looks."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.kernel import pagemap, pagemap_scan, userfaultfd
from engine.kernel.libc import NR, syscall
from engine.lazy import restored

if TYPE_CHECKING:
    from engine.lazy.link import Connection
    from engine.restore_context import RestoreContext, RestoredTask
    from engine.tape.tape import Tape

_PAGES = 8


class _LookedAt:
    """A task with some empty pages, of which it empties all again when it is to run a tape. Then somebody reads one of
    them for the first few times, as ps(1) does that wants to know a task's words."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.stub = self
        area = mmap.mmap(-1, _PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        self.stop = self.start + _PAGES * mmap.PAGESIZE
        ours, its = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            try:
                ours.close()
                fd = syscall(NR["userfaultfd"], os.O_CLOEXEC | os.O_NONBLOCK)
                userfaultfd.open_api(fd, userfaultfd.FEATURE_EVENTS)
                socket.send_fds(its, [b"!"], [fd])
                while its.recv(1):
                    area.madvise(mmap.MADV_DONTNEED)
                    its.send(b"!")
            finally:
                os._exit(0)
        its.close()
        self._channel = ours
        _, (self.fd,), _, _ = socket.recv_fds(ours, 1, 1)

    def run(self, _: Tape) -> None:
        self._channel.send(b"!")
        assert self._channel.recv(1)
        if self.looks:
            self.looks -= 1
            self.read()

    def read(self) -> bytes:
        """The third page."""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), mmap.PAGESIZE, self.start + 2 * mmap.PAGESIZE)

    def end(self) -> None:
        self._channel.close()
        os.close(self.fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("scans", [True, False], ids=["scan", "entries"])
def test_somebody_looks_before_it_is_registered(monkeypatch: pytest.MonkeyPatch, scans: bool) -> None:
    """What has been read would stay a page of zeros, that no fault tells of."""
    monkeypatch.setattr(pagemap, "can_scan", lambda: scans and pagemap_scan.can_scan())
    task = _LookedAt(looks=3)
    try:
        restored.register_empty(cast("RestoredTask", cast("Any", task)), task.fd, [(task.start, task.stop)])
        assert task.looks == 0
        assert pagemap.populated(task.pid, [(task.start, task.stop)]) == []
        content = ctypes.create_string_buffer(os.urandom(_PAGES * mmap.PAGESIZE))
        userfaultfd.copy(task.fd, task.start, ctypes.addressof(content), _PAGES * mmap.PAGESIZE)
        assert task.read() == content.raw[2 * mmap.PAGESIZE : 3 * mmap.PAGESIZE]
    finally:
        task.end()


class _Daemon:
    """Is told everything, and then the descriptor can't be closed properly."""

    def __init__(self) -> None:
        self.told = 0

    def finish(self) -> None:
        self.told += 1

    def close(self) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_restore_of_which_all_has_been_said_has_succeeded() -> None:
    """Whatever becomes of the socket."""
    daemon = _Daemon()
    tasks = restored.LazyTasks(cast("RestoreContext", None))
    tasks._daemon = cast("Connection", daemon)
    tasks.finish()
    assert daemon.told == 1
