"""Pidfds of the task itself: one blocking, one not, and a copy.

states: pidfds/pidfd-of-self
flavours: h
"""

import os
import signal

from zdtm.lib.proc import fdinfo, same_description
from zdtm.lib.program import check, equal, ready, run

PIDFD_NONBLOCK = os.O_NONBLOCK


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    plain, nonblocking = os.pidfd_open(os.getpid()), os.pidfd_open(os.getpid(), PIDFD_NONBLOCK)
    copy = os.dup(plain)
    os.set_inheritable(copy, True)
    before = [fdinfo(fd)["flags"] for fd in (plain, nonblocking, copy)]
    ready()
    equal([fdinfo(fd)["flags"] for fd in (plain, nonblocking, copy)], before, "flags of the pidfds")
    for fd in (plain, nonblocking, copy):
        equal(fdinfo(fd)["Pid"], str(os.getpid()), "pid that the pidfd stands for")
        signal.pidfd_send_signal(fd, signal.SIGUSR1)
        equal(signal.sigwait({signal.SIGUSR1, signal.SIGALRM}), signal.SIGUSR1, "signal that arrived")
    equal([os.get_blocking(fd) for fd in (plain, nonblocking)], [True, False], "which of them block")
    check(same_description(plain, copy), "the copy is another pidfd")
    check(not same_description(plain, nonblocking), "the two pidfds are one")


if __name__ == "__main__":
    run(main)
