"""Foster parents: who twins (birth.py) belong to while they live.

A process whose parent has exited is given to the nearest subreaper among its ancestors, or to the init of its pid
namespace (kernel/exit.c, find_new_reaper). Either would see a child that it never made: wait(2) would wait for it, and
SIGCHLD would tell of its death. So each twin is born into a pid namespace made for it, whose init is ours. The search
for a subreaper ends where that namespace does.

Who enters a pid namespace needs CAP_SYS_ADMIN, over it and over itself, which tasks seldom have. But the owner of a
user namespace, by its user id, may enter it and has all capabilities in there (user_namespaces(7)); and to do so
changes nothing outside. So the pid namespace lies in a user namespace which is owned by the tasks' user.

Neither the foster parent nor the process between it and the engine outlives the engine: they wait for the end of file
of a pipe that only the engine writes to. With the init of a pid namespace die all who are in it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_SET_NAME, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP

if TYPE_CHECKING:
    from typing import Self

CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
_NAME = b"crucible-twins\0"


class Foster:
    """The init of a pid namespace which tasks of one user may enter. Raises OSError when there can't be any.

    user_ns, pid_ns   descriptors of the namespaces
    """

    def __init__(self, uid: int) -> None:
        """uid: effective, of the tasks."""
        alive, self._alive = os.pipe()
        told, tell = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                _make(uid, alive, tell)
            finally:
                os._exit(1)
        os.close(alive)
        os.close(tell)
        self.user_ns = self.pid_ns = -1
        try:
            self._open(told)
        except BaseException:
            self._close()
            os.waitpid(self._pid, 0)
            raise
        finally:
            os.close(told)

    def _open(self, told: int) -> None:
        """told: says the errno of what went wrong, negative, or the pid of the init."""
        answer = int(os.read(told, 32) or -1)
        if answer < 0:
            raise OSError(-answer, f"a pid namespace for twins can't be made: {os.strerror(-answer)}")
        self.user_ns = os.open(f"/proc/{answer}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self.pid_ns = os.open(f"/proc/{answer}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it, and whoever is in its namespace, and wait for that. If something has gone wrong, it is left to the
        engine's end: the namespace would wait for a twin that the engine still traces, and the engine for that."""
        self._close()
        if kind is None:
            os.waitpid(self._pid, 0)

    def _close(self) -> None:
        for fd in (self._alive, self.user_ns, self.pid_ns):
            if fd >= 0:
                os.close(fd)


def _make(uid: int, alive: int, tell: int) -> None:
    """In a fork of the engine: become the tasks' user, keeping capabilities, since there are systems where ordinary
    users may not make user namespaces; make the namespaces, and their init."""
    _close_all_but(alive, tell)
    with contextlib.suppress(OSError):
        syscall(NR["prctl"], PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    try:
        syscall(NR["setresuid"], -1, uid, -1)
        syscall(NR["unshare"], CLONE_NEWUSER | CLONE_NEWPID)
        init = os.fork()
    except OSError as error:
        os.write(tell, b"%d" % -(error.errno or 1))
        os._exit(1)
    syscall(NR["prctl"], PR_SET_NAME, _NAME)
    if init:
        os.write(tell, b"%d" % init)
        os.close(alive)
        os.waitpid(init, 0)
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.close(tell)
        os.read(alive, 1)
    os._exit(0)


def _close_all_but(*kept: int) -> None:
    """No copy of a task's descriptors may outlive the task's own."""
    borders = [-1, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
    for low, high in zip(borders, borders[1:], strict=False):
        os.closerange(low + 1, high)
