"""/dev/tty, opened in one session, is open in another one only, which has another terminal; and once more for a
terminal that was hung up since.

states: tty-and-pty/ctty-whose-fd-sits-in-another-session
flavours: h
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run
from zdtm.lib.terminal import lead_session, new_master, open_slave, read_within, session_of


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lost, path = new_master()
    open_slave(path, control=True)
    hung_up = os.open("/dev/tty", os.O_RDWR)
    os.close(lost)
    gate = Gate()
    (first, first_path), (second, second_path) = new_master(), new_master()
    open_slave(first_path, control=True)
    current = os.open("/dev/tty", os.O_RDWR | os.O_NONBLOCK)

    def leader() -> None:
        lead_session(second_path)
        own = os.open("/dev/tty", os.O_RDWR)
        gate.wait()
        os.write(current, b"to the first\n")
        os.write(own, b"to the second\n")
        equal(session_of(own), os.getpid(), "session of the leader's terminal")
        equal(session_of(current), None, "session of a terminal that is another's")
        equal(os.get_blocking(current), False, "whether reading from it blocks")
        equal(os.read(hung_up, 64), b"", "end of file of the terminal that was hung up")

    pid = child(leader)
    os.close(current)
    gate.expect(1)
    ready()
    gate.open()
    equal(read_within(first, 14), b"to the first\r\n", "output of the first terminal")
    equal(read_within(second, 15), b"to the second\r\n", "output of the second terminal")
    equal(reap(pid), 0, "status of the leader")


if __name__ == "__main__":
    run(main)
