"""Lines that end in different ways, and one that is still being typed, which can be corrected after the restore.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
"""

import os
import termios

from zdtm.lib.program import equal, ready, run, wait_until
from zdtm.lib.terminal import is_readable, new_master, open_slave, unread

QUOTE, END_OF_FILE, ERASE = b"\x16", b"\x04", b"\x7f"
TYPED = b"newline\n" + b"end of file" + END_OF_FILE + END_OF_FILE + b"bar|" + b"two" + QUOTE + b"\nlines\n"
READ = [b"newline\n", b"end of file", b"", b"bar|", b"two\nlines\n"]


def main() -> None:
    master, path = new_master()
    slave = open_slave(path)
    modes = termios.tcgetattr(slave)
    modes[3] &= ~termios.ECHO
    modes[6][termios.VEOL] = b"|"
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    os.write(master, TYPED + b"begum")
    wait_until(lambda: unread(slave) == sum(map(len, READ)), "the lines have arrived")
    ready()
    os.write(master, ERASE + b"n\n")
    equal([os.read(slave, 64) for _ in READ], READ, "complete lines")
    equal(os.read(slave, 64), b"begun\n", "line that was still being typed")
    equal((is_readable(slave), is_readable(master)), (False, False), "more to read")


if __name__ == "__main__":
    run(main)
