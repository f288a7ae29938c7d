"""A pseudo terminal controls the session of the task that holds both its ends, and /dev/tty.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
"""

import os
import signal

from zdtm.lib.program import equal, ready, run
from zdtm.lib.terminal import new_master, open_slave, read_within, session_of

MASTER_FD, SLAVE_FD, TTY_FD = 101, 102, 100


def moved(fd: int, number: int) -> None:
    os.dup2(fd, number)
    os.close(fd)


def main() -> None:
    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda signo, _frame: hangups.append(signo))
    master, path = new_master()
    moved(open_slave(path, control=True), SLAVE_FD)
    moved(master, MASTER_FD)
    moved(os.open("/dev/tty", os.O_RDWR), TTY_FD)
    ready()
    equal(hangups, [], "hangups before the terminal is closed")
    equal((session_of(SLAVE_FD), os.tcgetpgrp(TTY_FD)), (os.getsid(0), os.getpgrp()), "session and foreground group")
    equal(os.ttyname(SLAVE_FD), path, "name of the terminal")
    os.write(MASTER_FD, b"typed\n")
    equal(os.read(TTY_FD, 64), b"typed\n", "line read from /dev/tty")
    os.write(TTY_FD, b"printed\n")
    equal(read_within(MASTER_FD, 16), b"typed\r\nprinted\r\n", "echo and output")
    os.close(TTY_FD)
    os.close(SLAVE_FD)
    equal(hangups, [], "hangups when the slave is closed")
    os.close(MASTER_FD)
    equal(hangups, [signal.SIGHUP], "hangups when the master is closed")


if __name__ == "__main__":
    run(main)
