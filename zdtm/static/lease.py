"""Leases for reading and for writing, each announced by a signal of its own; and a file with two leases of which the
third description has none.

states: file-locks-and-leases/leases
flavours: h
modes: not lazy-remote: the tree that stands has the lease
kernel: locks in fdinfo
options: --file-locks
needs: root, feature fdinfo_lock
"""

import fcntl
import os
import signal

from zdtm.lib.proc import locks
from zdtm.lib.program import check, equal, ready, run

BROKEN = signal.SIGRTMIN + 3
SECONDS = 5


def opened(name: str, flags: int = os.O_RDONLY) -> int:
    return os.open(name, flags | os.O_CREAT)


def lease(fd: int, kind: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    fcntl.fcntl(fd, fcntl.F_SETSIG, BROKEN)


def break_by(name: str, flags: int) -> None:
    """Open a leased file, which would have to wait for the owner, and see the signal that tells the owner."""
    try:
        os.open(name, flags | os.O_NONBLOCK)
    except BlockingIOError:
        pass
    else:
        check(False, f"{name} could be opened in spite of its lease")
    check(signal.sigtimedwait({BROKEN}, SECONDS) is not None, f"no signal told that the lease of {name} is broken")


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {BROKEN})
    reading, writing = opened("read"), opened("written", os.O_RDWR)
    several = [opened("several") for _ in range(3)]
    lease(reading, fcntl.F_RDLCK)
    lease(writing, fcntl.F_WRLCK)
    for fd in several[:2]:
        lease(fd, fcntl.F_RDLCK)
    kinds = {reading: fcntl.F_RDLCK, writing: fcntl.F_WRLCK}
    before = {fd: locks(fd) for fd in (reading, writing, *several)}
    ready()
    check(BROKEN not in signal.sigpending(), "a lease was broken on the way")
    for fd, kind in kinds.items():
        equal(fcntl.fcntl(fd, fcntl.F_GETLEASE), kind, f"lease of descriptor {fd}")
    for fd, expected in before.items():
        equal(locks(fd), expected, f"leases and locks of descriptor {fd}")
        equal(fcntl.fcntl(fd, fcntl.F_GETSIG), 0 if fd == several[2] else BROKEN, f"signal of descriptor {fd}")

    os.close(os.open("read", os.O_RDONLY | os.O_NONBLOCK))
    break_by("read", os.O_WRONLY)
    break_by("written", os.O_RDONLY)
    for fd in kinds:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os.close(os.open("read", os.O_WRONLY | os.O_NONBLOCK))
    os.close(os.open("written", os.O_RDONLY | os.O_NONBLOCK))


if __name__ == "__main__":
    run(main)
