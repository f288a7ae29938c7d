"""Pseudo terminals with unread data in both directions: lines with their echo, and raw bytes without end of line.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
"""

import os
import termios

from zdtm.lib.program import equal, ready, run, wait_until
from zdtm.lib.terminal import is_readable, new_master, open_slave, read_within, set_raw, unread


def pair() -> tuple[int, int]:
    master, path = new_master()
    return master, open_slave(path)


def main() -> None:
    cooked_master, cooked = pair()
    os.write(cooked_master, b"typed\n")
    echo = read_within(cooked_master, 7)
    os.write(cooked_master, b"second\n")
    wait_until(lambda: unread(cooked_master) == 8, "the echo of the second line is there")
    os.write(cooked, b"printed\n")
    raw_master, raw = pair()
    set_raw(raw)
    os.write(raw_master, b"no end\x03\x04of line")
    os.write(raw, b"\x11output\x13")
    equal(echo, b"typed\r\n", "echo of the first line")
    wait_until(lambda: unread(cooked_master) == 17, "the output has reached the master")
    wait_until(lambda: (unread(raw), unread(raw_master)) == (15, 8), "the raw bytes have reached both ends")
    modes = [termios.tcgetattr(fd) for fd in (cooked, raw)]
    ready()
    equal([termios.tcgetattr(fd) for fd in (cooked, raw)], modes, "modes of the terminals")
    expected = b"second\r\nprinted\r\n"
    equal(read_within(cooked_master, len(expected)), expected, "echo of the second line, and the output")
    equal([os.read(cooked, 64), os.read(cooked, 64)], [b"typed\n", b"second\n"], "lines that were typed")
    equal(read_within(raw, 15), b"no end\x03\x04of line", "raw input")
    equal(read_within(raw_master, 8), b"\x11output\x13", "raw output")
    equal([is_readable(fd) for fd in (cooked_master, cooked, raw_master, raw)], [False] * 4, "more to read")


if __name__ == "__main__":
    run(main)
