"""Leases that somebody is breaking: the owner has been told, and has not yet given up. One is to become a lease for
reading, one is to go, and one belongs to a description that only a child has open.

states: file-locks-and-leases/breaking-leases
flavours: h
modes: not lazy-remote: the tree that stands has the lease
options: --file-locks
needs: root, feature fdinfo_lock
"""

import fcntl
import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.proc import locks
from zdtm.lib.program import check, child, equal, ready, reap, run

BROKEN = signal.SIGRTMIN + 3
SECONDS = 5


def leased(name: str) -> int:
    # A file that is open for writing, even by the owner, can have no lease for reading.
    fd = os.open(name, os.O_RDONLY | os.O_CREAT)
    fcntl.fcntl(fd, fcntl.F_SETSIG, BROKEN)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    return fd


def can_open(name: str, flags: int) -> bool:
    try:
        os.close(os.open(name, flags | os.O_NONBLOCK))
    except BlockingIOError:
        return False
    return True


def begin_to_break(name: str, flags: int) -> None:
    check(not can_open(name, flags), f"{name} could be opened in spite of its lease")
    check(signal.sigtimedwait({BROKEN}, SECONDS) is not None, f"no signal told that the lease of {name} is broken")


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {BROKEN})
    to_read, to_go, childs = (leased(name) for name in ("to read", "to go", "child's"))
    begin_to_break("to read", os.O_RDONLY)
    begin_to_break("to go", os.O_WRONLY)
    gate = Gate()

    def body() -> None:
        gate.wait()
        # The parent has just tried to open it for reading.
        equal(fcntl.fcntl(childs, fcntl.F_GETLEASE), fcntl.F_RDLCK, "what the lease in the child is to become")
        fcntl.fcntl(childs, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    pid = child(body)
    gate.expect(1)
    os.close(childs)
    before = {fd: locks(fd) for fd in (to_read, to_go)}
    ready()
    check(BROKEN not in signal.sigpending(), "the owner was told again")
    # For a lease that is being broken, F_GETLEASE gives what it is to become.
    equal(fcntl.fcntl(to_read, fcntl.F_GETLEASE), fcntl.F_RDLCK, "what the first lease is to become")
    equal(fcntl.fcntl(to_go, fcntl.F_GETLEASE), fcntl.F_UNLCK, "what the second lease is to become")
    for fd, expected in before.items():
        equal(locks(fd), expected, f"leases of descriptor {fd}")
    check(not can_open("to read", os.O_RDONLY), "a file could be opened before its lease was given up")
    check(BROKEN not in signal.sigpending(), "the owner was told again by one more attempt")
    fcntl.fcntl(to_read, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    check(can_open("to read", os.O_RDONLY), "a file with a lease for reading could not be opened for reading")
    fcntl.fcntl(to_go, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    check(can_open("to go", os.O_WRONLY), "a file could not be opened though its lease was given up")
    check(not can_open("child's", os.O_RDONLY), "the lease of the description that only the child has is gone")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    check(can_open("child's", os.O_RDONLY), "a file could not be opened though the child has given its lease up")


if __name__ == "__main__":
    run(main)
