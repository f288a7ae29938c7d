"""Eight jobs of four tasks on one terminal, all in the background and stopped by it: half of them as they wanted to
read, half as they wanted to write.

states: tty-and-pty/job-control
flavours: h
slow: 33 interpreters, whose memory is stored, and read by the oracle before and after
"""

import os
import signal
import termios
from functools import partial

from zdtm.lib.gate import Gate
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run, wait_until
from zdtm.lib.terminal import new_master, open_slave

JOBS, TASKS = 8, 4


def stop_signal(job: int) -> signal.Signals:
    return signal.SIGTTOU if job % 2 else signal.SIGTTIN


def stopped_by(pid: int) -> int:
    """The signal. The report stays to be taken."""
    info = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert info is not None
    return info.si_status


def all_stopped(pids: list[int]) -> bool:
    return all(stat(pid).state == "T" for pid in pids)


def main() -> None:
    """The shell: leader of the session, in the foreground."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    master, path = new_master()
    slave = open_slave(path, control=True)
    modes = termios.tcgetattr(slave)
    modes[3] |= termios.TOSTOP
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, modes)

    def work(job: int, leader: int, gate: Gate) -> None:
        os.setpgid(0, leader)
        os.close(master)
        gate.wait()
        if job % 2:
            os.write(slave, b"%d\n" % job)
        else:
            equal(os.read(slave, 2), b"%d\n" % job, "line for the job")

    def start(job: int) -> list[int]:
        """Gives the pids of the tasks, the leader first. The first of them that uses the terminal stops them all."""
        gate = Gate()
        pids = [child(lambda: work(job, 0, gate))]
        gate.expect(1)
        pids += [child(lambda: work(job, pids[0], gate)) for _ in range(TASKS - 1)]
        gate.expect(TASKS - 1)
        gate.open()
        for pid in pids:
            equal(stopped_by(pid), stop_signal(job), "signal that stopped the task")
        return pids

    jobs = {job: start(job) for job in range(JOBS)}
    # The jobs have their own idea of this signal by now. Ignored, it lets us take the terminal in the background.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ready()
    equal(os.tcgetpgrp(slave), os.getpgrp(), "foreground group")
    for job, pids in jobs.items():
        wait_until(partial(all_stopped, pids), "the tasks of the job are stopped")
        equal([stopped_by(pid) for pid in pids], [stop_signal(job)] * TASKS, "signals that have stopped the job")
        os.tcsetpgrp(slave, pids[0])
        os.killpg(pids[0], signal.SIGCONT)
        if job % 2 == 0:
            os.write(master, b"%d\n" % job * TASKS)
        equal([reap(pid) for pid in pids], [0] * TASKS, "statuses of the job")


if __name__ == "__main__":
    run(main)
