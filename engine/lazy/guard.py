"""No task may run on without the daemon.

When the last descriptor of a userfaultfd is closed, the kernel forgets that pages were missing: they read as zeros, and
nobody would ever know. So a second process, the guard, holds all that the daemon holds. It is made by clone3(2) with
CLONE_FILES: both have one and the same descriptor table, so that even the userfaultfd of a child that has just been
born is the guard's, too, and there is no instant in which only the daemon has it. When the daemon dies, the guard keeps
everybody waiting who touches a missing page, and kills: the tasks that the restore has announced, whose pidfds stand in
the table, with their descendants, and whoever else of the tree still comes to touch a missing page.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
from typing import TYPE_CHECKING

from engine import log
from engine.kernel import userfaultfd
from engine.kernel.libc import NR, syscall
from engine.kernel.procfs import children
from engine.kernel.title import set_title
from engine.task.mm import TASK_SIZE

if TYPE_CHECKING:
    from typing import NoReturn

PAGE = 4096
_CLONE_FILES = 0x400
_CLONE_ARGS = struct.Struct("<11Q")
_LOOK_AGAIN_MS = 50


class Guard:
    """The second process, seen from the daemon. pidfd: of the guard."""

    def __init__(self) -> None:
        """Raises OSError when it can't be made."""
        daemon = os.pidfd_open(os.getpid())
        self.pid = syscall(NR["clone3"], _CLONE_ARGS.pack(_CLONE_FILES, 0, 0, 0, signal.SIGCHLD, *(0,) * 6), 88)
        if not self.pid:
            _be_guard(daemon)
        self.pidfd = os.pidfd_open(self.pid)
        self._daemon = daemon

    def end(self) -> None:
        """There is nothing to guard any more, or it is dead."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.close(self._daemon)


def _be_guard(daemon: int) -> NoReturn:
    """In the new process. What it closes the daemon loses, so it closes nothing while the daemon lives."""
    try:
        os.setsid()
        set_title("lazy-pages: guard")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        poll.register(daemon, select.POLLIN)
        poll.poll()
        log.error("the lazy-pages daemon has died: the tasks that need it are killed")
        _hang_up()
        end_tasks()
    finally:
        os._exit(1)


def _hang_up() -> None:
    """Whoever is at the other end of a socket is to know that the daemon is dead."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.close(fd)


def end_tasks() -> None:
    """Kill all tasks that this process has a pidfd or a userfaultfd of, and return when all of them are gone."""
    faulting: set[int] = set()
    tasks: list[int] = []
    own = {os.getpid(), os.getppid()}
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if userfaultfd.is_one(fd):
                faulting.add(fd)
            elif (pid := _pid_of(fd)) and pid not in own:
                tasks.append(fd)
    family = {pid for fd in tasks for pid in _family(_pid_of(fd) or 0)}
    for fd in tasks:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _await_end(faulting)


def _pid_of(fd: int) -> int | None:
    """The process of a pidfd, None for any other descriptor and for one that is dead."""
    with open(f"/proc/self/fdinfo/{fd}") as info:
        for line in info:
            if line.startswith("Pid:"):
                return max(int(line.split()[1]), 0) or None
    return None


def _family(pid: int) -> list[int]:
    """The descendants of a process."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        with contextlib.suppress(OSError):
            below = children(waiting.pop())
            found += below
            waiting += below
    return found


def _await_end(faulting: set[int]) -> None:
    """Until all address spaces are gone. Nothing tells of that, so it has to be looked for again and again."""
    poll = select.poll()
    for fd in faulting:
        poll.register(fd, select.POLLIN)
        _wake_all(fd)
    while faulting:
        for fd in list(faulting):
            with contextlib.suppress(OSError):
                for message in userfaultfd.read(fd):
                    if message.kind == userfaultfd.FORK:
                        faulting.add(message.words[0])
                        poll.register(message.words[0], select.POLLIN)
                    elif message.kind == userfaultfd.PAGEFAULT:
                        _end_toucher(message.words[2], message.words[1])
            if _is_gone(fd):
                faulting.discard(fd)
                poll.unregister(fd)
                os.close(fd)
        poll.poll(_LOOK_AGAIN_MS)


def _wake_all(fd: int) -> None:
    """Have everybody who waits for a page touch it once more: a fault is told once, and the daemon may have read it.

    The range must not begin below mmap_min_addr: the larger of the sysctl's value and the kernel's own, of which only
    the first can be read."""
    start = PAGE
    while start < TASK_SIZE:
        try:
            userfaultfd.wake(fd, start, TASK_SIZE - start)
            break
        except OSError:
            start *= 2


def _end_toucher(tid: int, address: int) -> None:
    """Kill the process of a thread that waits for a missing page of its own. It can be another one that reads the
    task's memory, a debugger, which is not to be harmed."""
    from engine.kernel.proc_maps import read_smaps

    with contextlib.suppress(OSError):
        if tid and any(vma.start <= address < vma.end and "um" in vma.flags for vma in read_smaps(tid)):
            os.kill(tid, signal.SIGKILL)


def _is_gone(fd: int) -> bool:
    """Whether the address space of a userfaultfd exists no more. Asked for the last page there can be, in which no
    mapping is."""
    try:
        userfaultfd.zero(fd, TASK_SIZE - PAGE, PAGE)
    except OSError as error:
        return error.errno == errno.ESRCH
    return False
