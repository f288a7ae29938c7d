"""A session leader without a controlling terminal has a slave open: that must not become it.

states: tty-and-pty/non-controlling-pts
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run
from zdtm.lib.terminal import check_no_terminal, new_master, open_slave, session_of


def check_uncontrolled(fd: int) -> None:
    equal(session_of(fd), None, "session that the slave controls")
    check_no_terminal()


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
