"""Tasks that want a signal when their parent dies: the wish is kept, and comes true.

states: process-tree/pr-set-pdeathsig
flavours: h
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, get_pdeathsig, prctl
from zdtm.lib.program import check, child, equal, ready, reap, run

WAIT_SECONDS = 10


def main() -> None:
    gate, done = Gate(), Gate()
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    def mourner() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
        prctl(PR_SET_PDEATHSIG, signal.SIGUSR2)
        gate.wait()
        wish, pending = get_pdeathsig(), signal.sigpending()
        done.arrive()
        equal(wish, signal.SIGUSR2, "signal to be sent when the parent dies")
        equal(pending, set(), "signals that were sent while the parent lived")
        info = signal.sigtimedwait({signal.SIGUSR1, signal.SIGUSR2}, WAIT_SECONDS)
        check(info is not None, "the parent died without a signal")
        equal(info and info.si_signo, signal.SIGUSR2, "signal of the parent's death")

    def parent() -> None:
        equal(get_pdeathsig(), 0, "signal of one who has not asked for any")
        child(mourner)
        done.wait()

    pid = child(parent)
    (orphan,) = gate.expect(1)
    done.expect(1)
    ready()
    gate.open()
    done.expect(1)
    os.kill(pid, signal.SIGKILL)
    equal(reap(pid), signal.SIGKILL, "status of the parent")
    equal(reap(orphan), 0, "status of the orphan")


if __name__ == "__main__":
    run(main)
