"""A session has a controlling terminal, but no task has the slave open; the master is in another session.

states: tty-and-pty/controlling-tty-without-open-slave
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run
from zdtm.lib.terminal import lead_session, new_master, read_within, session_of


def main() -> None:
    gate = Gate()
    master, path = new_master()

    def leader() -> None:
        os.close(lead_session(path))
        os.close(master)
        gate.wait()
        tty = os.open("/dev/tty", os.O_RDWR)
        gate.arrive()
        equal(session_of(tty), os.getpid(), "session of the terminal")
        equal(os.tcgetpgrp(tty), os.getpid(), "foreground group of the terminal")
        os.write(tty, b"here I am\n")
        equal(os.read(tty, 64), b"so am I\n", "answer")

    pid = child(leader)
    gate.expect(1)
    ready()
    gate.open()
    gate.expect(1)  # until then the master has nobody to read from
    equal(read_within(master, 11), b"here I am\r\n", "what was written to /dev/tty")
    os.write(master, b"so am I\n")
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
