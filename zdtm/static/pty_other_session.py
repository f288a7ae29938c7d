"""The slave that controls a session is open in a task of another session only, which leads that.

states: tty-and-pty/ctty-whose-fd-sits-in-another-session
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run
from zdtm.lib.terminal import lead_session, new_master, read_within, session_of


def main() -> None:
    gate, inner_gate = Gate(), Gate()
    master, path = new_master()

    def leader() -> None:
        slave = lead_session(path)
        other = child(lambda: stranger(slave))
        os.close(slave)
        os.close(master)
        gate.wait()
        tty = os.open("/dev/tty", os.O_RDWR)
        equal(session_of(tty), os.getpid(), "session of the terminal")
        inner_gate.open()
        equal(reap(other), 0, "status of the stranger")

    def stranger(slave: int) -> None:
        os.setsid()
        os.close(master)
        gate.arrive()
        inner_gate.wait()
        equal(session_of(slave), None, "session that the slave controls, as a stranger sees it")
        os.write(slave, b"from a stranger\n")
        equal(os.read(slave, 64), b"to a stranger\n", "answer to the stranger")

    pid = child(leader)
    gate.expect(2)
    ready()
    equal(session_of(master), pid, "session of the terminal, asked of the master")
    gate.open()
    equal(read_within(master, 17), b"from a stranger\r\n", "what the stranger wrote")
    os.write(master, b"to a stranger\n")
    equal(reap(pid), 0, "status of the leader")


if __name__ == "__main__":
    run(main)
