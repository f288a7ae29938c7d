"""Output of two terminals is stopped: of one by the user's ^S, of the other by the program. ^Q only helps the first.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
"""

import os
import select
import termios

from zdtm.lib.program import check, equal, ready, run, wait_until
from zdtm.lib.terminal import is_readable, new_master, open_slave, read_within

STOP, START = b"\x13", b"\x11"


def takes_output(slave: int) -> bool:
    return bool(select.select([], [slave], [], 0)[1])


def main() -> None:
    terminals = []
    for _ in range(2):
        master, path = new_master()
        slave = open_slave(path)
        os.write(slave, b"before ")
        terminals.append((master, slave))
    (by_user, first), (by_program, second) = terminals
    os.write(by_user, STOP)
    termios.tcflow(second, termios.TCOOFF)
    wait_until(lambda: not takes_output(first), "output is stopped")
    ready()
    for master, slave in terminals:
        equal(read_within(master, 7), b"before ", "output from before it was stopped")
        check(not takes_output(slave), "output goes on by itself")
        os.write(master, START)
    wait_until(lambda: takes_output(first), "output goes on after ^Q")
    os.write(by_program, b"typed\n")
    equal(os.read(second, 64), b"typed\n", "what was typed after ^Q")
    check(not takes_output(second), "output goes on after ^Q, though the program has stopped it")
    check(not is_readable(by_program), "there is an echo, though output is stopped")
    termios.tcflow(second, termios.TCOON)
    os.write(first, b"after")
    equal(read_within(by_user, 5), b"after", "output from after ^Q")
    os.write(second, b"after")
    equal(read_within(by_program, 12), b"typed\r\nafter", "the echo that was kept back, and output from after it")


if __name__ == "__main__":
    run(main)
