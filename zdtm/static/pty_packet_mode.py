"""A master in packet mode, with output that has not been read: it goes on to be told what happens to the slave.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
"""

import fcntl
import os
import struct
import termios

from zdtm.lib.program import equal, ready, run, wait_until
from zdtm.lib.terminal import new_master, open_slave, unread

FLUSHED_INPUT, STOPPED, STARTED, NO_FLOW_CONTROL = 1, 4, 8, 16


def main() -> None:
    master, path = new_master()
    slave = open_slave(path)
    fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
    os.write(slave, b"output")
    wait_until(lambda: unread(master) == 6, "the output has arrived")
    ready()
    equal(os.read(master, 64), b"\0output", "output, as a packet")
    termios.tcflow(slave, termios.TCOOFF)
    equal(os.read(master, 64), bytes([STOPPED]), "news that output is stopped")
    termios.tcflow(slave, termios.TCOON)
    equal(os.read(master, 64), bytes([STARTED]), "news that output goes on")
    termios.tcflush(slave, termios.TCIFLUSH)
    equal(os.read(master, 64), bytes([FLUSHED_INPUT]), "news that input was thrown away")
    modes = termios.tcgetattr(slave)
    modes[0] &= ~termios.IXON
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    equal(os.read(master, 64), bytes([NO_FLOW_CONTROL]), "news that ^S does not stop any more")


if __name__ == "__main__":
    run(main)
