"""A child leads a session that a pseudo terminal controls; the parent has the master, and hangs up in the end.

states: tty-and-pty/controlling-tty-of-child-session
flavours: h
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run
from zdtm.lib.terminal import lead_session, new_master, read_within, session_of


def main() -> None:
    gate = Gate()
    master, path = new_master()

    def leader() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGCONT})
        slave = lead_session(path)
        os.close(master)
        gate.wait()
        equal(signal.sigpending(), set(), "signals before the hangup")
        equal(session_of(slave), os.getpid(), "session of the terminal")
        os.write(slave, b"hang up\n")
        equal(signal.sigwait({signal.SIGHUP}), signal.SIGHUP, "signal of the hangup")
        equal(os.read(slave, 64), b"", "end of file after the hangup")

    pid = child(leader)
    gate.expect(1)
    ready()
    equal(session_of(master), pid, "session of the terminal, asked of the master")
    gate.open()
    equal(read_within(master, 9), b"hang up\r\n", "last words")
    os.close(master)
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
