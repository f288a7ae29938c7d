"""Pipe readers that send signals when data comes (O_ASYNC): owned by a process and by a process group, with another
signal than SIGIO, one of them set by a different effective user.

states: files/fown-f-setsig-o-async
flavours: h
needs: root
"""

import fcntl
import os
import signal
import struct

from zdtm.lib.program import check, equal, ready, run

F_SETOWN_EX, F_GETOWN_EX, F_GETOWNER_UIDS = 15, 16, 17
F_OWNER_PID, F_OWNER_PGRP = 1, 2
SECONDS = 5


def own(fd: int, kind: int, owner: int, signo: int) -> None:
    fcntl.fcntl(fd, F_SETOWN_EX, struct.pack("ii", kind, owner))
    fcntl.fcntl(fd, fcntl.F_SETSIG, signo)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def describe(fd: int) -> dict[str, object]:
    return {
        "owner": struct.unpack("ii", fcntl.fcntl(fd, F_GETOWN_EX, bytes(8))),
        "user ids": struct.unpack("II", fcntl.fcntl(fd, F_GETOWNER_UIDS, bytes(8))),
        "signal": fcntl.fcntl(fd, fcntl.F_GETSIG),
        "flags": fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_ASYNC),
    }


def main() -> None:
    signals = {signal.SIGUSR1, signal.SIGRTMIN + 2}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pipes = [os.pipe() for _ in range(3)]
    (by_process, _), (by_group, _), (owned_only, _) = pipes
    own(by_process, F_OWNER_PID, os.getpid(), signal.SIGUSR1)
    os.seteuid(18943)
    own(by_group, F_OWNER_PGRP, os.getpgrp(), signal.SIGRTMIN + 2)
    os.seteuid(0)
    own(owned_only, F_OWNER_PID, os.getpid(), signal.SIGUSR1)
    fcntl.fcntl(owned_only, fcntl.F_SETFL, 0)
    before = {fd: describe(fd) for fd in (by_process, by_group, owned_only)}
    ready()
    for fd, facts in before.items():
        equal(describe(fd), facts, f"descriptor {fd}")
    check(not signals & signal.sigpending(), "a signal has come before any data")
    for (reader, writer), signo in zip(pipes[:2], (signal.SIGUSR1, signal.SIGRTMIN + 2), strict=True):
        os.write(writer, b"!")
        info = signal.sigtimedwait(signals, SECONDS)
        check(info is not None, f"no signal came from descriptor {reader}")
        equal(info and info.si_signo, signo, f"signal from descriptor {reader}")
    os.write(pipes[2][1], b"!")
    check(not signals & signal.sigpending(), "a signal came from the descriptor without O_ASYNC")


if __name__ == "__main__":
    run(main)
