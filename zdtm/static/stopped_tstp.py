"""Children stopped by SIGTSTP and SIGTTIN, each in a process group of its own: the report names the signal.

states: process-tree/sigtstp-stopped-task
flavours: h
"""

import os
import signal
from functools import partial

from zdtm.lib.gate import Gate
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run, wait_until

SIGNALS = (signal.SIGTSTP, signal.SIGTTIN)


def look(pid: int) -> tuple[int, int]:
    """How the child was stopped. The report stays to be taken."""
    info = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert info is not None
    return info.si_code, info.si_status


def is_stopped(pid: int) -> bool:
    return stat(pid).state == "T"


def main() -> None:
    gate = Gate()

    def body() -> None:
        """A group of its own, as these signals do not stop the members of an orphaned one."""
        os.setpgid(0, 0)
        gate.wait()

    pids = {child(body): signo for signo in SIGNALS}
    gate.expect(len(pids))
    for pid, signo in pids.items():
        os.kill(pid, signo)
        equal(look(pid), (os.CLD_STOPPED, signo), "how the child was stopped")
    ready()
    gate.open()
    for pid, signo in pids.items():
        # A task that its tracer has let go stops once more on its own.
        wait_until(partial(is_stopped, pid), "the child is stopped")
        equal(look(pid), (os.CLD_STOPPED, signo), "how the child was stopped")
        os.kill(pid, signal.SIGCONT)
        equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
