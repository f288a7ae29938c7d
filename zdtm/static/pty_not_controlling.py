"""A session leader without a controlling terminal has a slave open: that must not become it.

states: tty-and-pty/non-controlling-pts
flavours: h
"""

import errno
import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run
from zdtm.lib.terminal import new_master, open_slave, session_of


def check_uncontrolled(fd: int) -> None:
    equal(session_of(fd), None, "session that the slave controls")
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        check(False, "/dev/tty opens in a session without a terminal")
    except OSError as refusal:
        equal(refusal.errno, errno.ENXIO, "error of opening /dev/tty")


def main() -> None:
    gate = Gate()
    master, path = new_master()
    slave = open_slave(path)

    def leader() -> None:
        """The second session leader who has it open."""
        os.setsid()
        gate.wait()
        check_uncontrolled(slave)

    pid = child(leader)
    gate.expect(1)
    ready()
    check_uncontrolled(slave)
    equal(session_of(master), None, "session, asked of the master")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
