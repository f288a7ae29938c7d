"""A stopped child, for which a SIGTSTP is pending that it blocks, and an ordinary signal.

states: process-tree/stopped-with-blocked-pending-sigtstp
flavours: h
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.proc import stat, status
from zdtm.lib.program import child, equal, ready, reap, run, wait_until


def main() -> None:
    gate = Gate()
    blocked = {signal.SIGTSTP, signal.SIGUSR1}

    def body() -> None:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        gate.wait()
        # The arrival of SIGCONT removes all stop signals from the queue, blocked or not.
        equal(signal.sigpending(), {signal.SIGUSR1}, "pending signals of the continued child")

    pid = child(body)
    gate.expect(1)
    for signo in (signal.SIGTSTP, signal.SIGUSR1, signal.SIGSTOP):
        os.kill(pid, signo)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    before = {name: status(pid)[name] for name in ("SigBlk", "SigPnd", "ShdPnd")}
    equal(int(before["ShdPnd"], 16), sum(1 << (signo - 1) for signo in blocked), "pending signals")
    ready()
    # A task that its tracer has let go stops once more on its own.
    wait_until(lambda: stat(pid).state == "T", "the child is stopped")
    equal({name: status(pid)[name] for name in before}, before, "blocked and pending signals of the stopped child")
    gate.open()
    os.kill(pid, signal.SIGCONT)
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
