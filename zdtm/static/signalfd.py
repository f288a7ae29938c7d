"""Signalfds: their masks, a signal that waits, no signal that was not sent, and a mask that was changed.

states: event-fds-and-aio/signalfd
flavours: h
kernel: fdinfo
"""

import os
import select
import signal
import struct

from zdtm.lib.libc import signalfd
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import equal, ready, run

# struct signalfd_siginfo, see signalfd(2): signo, errno, code, pid, uid.
SIGINFO = struct.Struct("IiiII108x")
SI_USER = 0


def read(fd: int) -> tuple[int, ...]:
    return SIGINFO.unpack(os.read(fd, SIGINFO.size))


def readable(*fds: int) -> list[int]:
    return select.select(fds, [], [], 0)[0]


def main() -> None:
    waiting, quiet, changed = {signal.SIGUSR1}, {signal.SIGUSR2}, {signal.SIGRTMAX, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waiting | quiet | changed)
    waiting_fd, quiet_fd = signalfd(-1, waiting, os.O_NONBLOCK), signalfd(-1, quiet)
    changed_fd = signalfd(-1, {signal.SIGUSR1}, os.O_CLOEXEC)
    signalfd(changed_fd, changed)
    os.kill(os.getpid(), signal.SIGUSR1)
    before = [fdinfo(fd)["sigmask"] for fd in (waiting_fd, quiet_fd, changed_fd)]
    ready()
    equal([fdinfo(fd)["sigmask"] for fd in (waiting_fd, quiet_fd, changed_fd)], before, "masks")
    equal([os.get_blocking(fd) for fd in (waiting_fd, quiet_fd)], [False, True], "which of them block")
    equal([os.get_inheritable(fd) for fd in (quiet_fd, changed_fd)], [True, False], "which of them are inherited")
    equal(readable(waiting_fd, quiet_fd, changed_fd), [waiting_fd], "signalfds with a signal")
    sender = (0, SI_USER, os.getpid(), os.getuid())
    equal(read(waiting_fd), (signal.SIGUSR1, *sender), "the signal that waited")
    equal(readable(waiting_fd, quiet_fd, changed_fd), [], "signalfds with a signal, when it has been taken")
    for fd, signo in ((quiet_fd, signal.SIGUSR2), (changed_fd, signal.SIGHUP), (changed_fd, signal.SIGRTMAX)):
        os.kill(os.getpid(), signo)
        equal(readable(waiting_fd, quiet_fd, changed_fd), [fd], f"signalfds that have {signo.name}")
        equal(read(fd), (signo, *sender), f"what is told about {signo.name}")


if __name__ == "__main__":
    run(main)
