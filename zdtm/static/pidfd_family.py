"""Pidfds of a child and of a grandchild, which the grandchild's parent holds too; one pidfd is of a zombie.

states: pidfds/pidfd-of-live-child-grandchild
flavours: h
kernel: file system of pidfds
"""

import os
import select
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import child, equal, ready, reap, run


def is_readable(fd: int) -> bool:
    """What a pidfd is once its task has ended."""
    return bool(select.select([fd], [], [], 0)[0])


def main() -> None:
    gate = Gate()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def grandchild() -> None:
        gate.arrive()
        equal(signal.sigwait({signal.SIGUSR1}), signal.SIGUSR1, "signal that arrived")
        gate.wait()

    def parent() -> None:
        pid = child(grandchild)
        fd = os.pidfd_open(pid)
        gate.wait()
        equal(fdinfo(fd)["Pid"], str(pid), "pid that the parent's pidfd stands for")
        os.waitid(os.P_PIDFD, fd, os.WEXITED)
        equal(is_readable(fd), True, "the parent's pidfd is readable when the grandchild is dead")

    pids = {"child": child(parent), "zombie": child(lambda: os._exit(5))}
    pids["grandchild"] = next(pid for pid in gate.expect(2) if pid != pids["child"])
    fds = {name: os.pidfd_open(pid) for name, pid in pids.items()}
    os.waitid(os.P_PIDFD, fds["zombie"], os.WEXITED | os.WNOWAIT)
    ready()
    equal({name: int(fdinfo(fd)["Pid"]) for name, fd in fds.items()}, pids, "pids that the pidfds stand for")
    expected = {"child": False, "zombie": True, "grandchild": False}
    equal({name: is_readable(fd) for name, fd in fds.items()}, expected, "which tasks have ended")
    info = os.waitid(os.P_PIDFD, fds["zombie"], os.WEXITED)
    equal(info and (info.si_pid, info.si_status), (pids["zombie"], 5), "pid and status of the zombie")
    signal.pidfd_send_signal(fds["grandchild"], signal.SIGUSR1)
    equal(gate.expect(1), [pids["grandchild"]], "who got the signal")
    signal.pidfd_send_signal(fds["grandchild"], signal.SIGKILL)
    gate.open()
    equal(reap(pids["child"]), 0, "status of the child")


if __name__ == "__main__":
    run(main)
