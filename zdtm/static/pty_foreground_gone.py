"""The foreground group of a terminal has died out; of another it has lost all members but its number, which its first
leader still has. And a session has a terminal that a task in it, being older than that, does not have.

states: tty-and-pty/job-control
flavours: h
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run
from zdtm.lib.terminal import check_no_terminal, lead_session, new_master, open_slave, session_of


def main() -> None:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    gate = Gate()
    _, path = new_master()

    def older() -> None:
        os.setpgid(0, 0)
        gate.arrive()
        gate.wait()
        check_no_terminal()

    def other_leader() -> None:
        _, other_path = new_master()
        other = lead_session(other_path)

        def wanderer() -> None:
            os.setpgid(0, 0)
            os.tcsetpgrp(other, os.getpid())
            os.setpgid(0, os.getppid())
            gate.arrive()
            gate.wait()

        pid = child(wanderer)
        gate.arrive()
        gate.wait()
        equal(os.tcgetpgrp(other), pid, "foreground group that nobody is in any more")
        equal(reap(pid), 0, "status of the wanderer")

    old = child(older)
    gate.expect(1)
    slave = open_slave(path, control=True)
    gone = child(lambda: os.setpgid(0, 0))
    os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)
    os.tcsetpgrp(slave, gone)
    equal(reap(gone), 0, "status of the group")
    leader = child(other_leader)
    gate.expect(4)
    ready()
    equal((session_of(slave), os.tcgetpgrp(slave)), (os.getsid(0), gone), "session and foreground group")
    gate.open()
    equal([reap(pid) for pid in (old, leader)], [0, 0], "statuses")


if __name__ == "__main__":
    run(main)
