"""Everything that can be set on a pseudo terminal: modes, special characters, window size, packet mode, exclusive use,
and a lock on the slave.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
needs: root
"""

import fcntl
import os
import struct
import termios

from zdtm.lib.program import equal, ready, run
from zdtm.lib.terminal import TIOCSPTLCK, WINDOW, new_master, open_slave

TIOCGEXCL, TIOCGPKT, TIOCGPTLCK = 0x80045440, 0x80045438, 0x80045439
# Bits that mean something to a pseudo terminal; the others stay as they are.
INPUT = termios.IGNBRK | termios.INLCR | termios.IXOFF
OUTPUT = termios.OPOST | termios.OLCUC | termios.ONLRET
LOCAL = termios.ICANON | termios.ECHOE | termios.NOFLSH


def flag(fd: int, request: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, request, bytes(4)))[0])


def set_modes(fd: int) -> None:
    modes = termios.tcgetattr(fd)
    modes[0], modes[1], modes[3] = INPUT, OUTPUT, LOCAL
    modes[4] = modes[5] = termios.B9600
    # As numbers or as bytes, depending on the mode; these two are numbers only outside of the canonical one.
    modes[6] = [bytes([200 + n]) for n in range(len(modes[6]))]
    termios.tcsetattr(fd, termios.TCSANOW, modes)


def settings(master: int, slave: int) -> dict[str, object]:
    return {
        "modes": termios.tcgetattr(slave),
        "window": WINDOW.unpack(fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(WINDOW.size))),
        "packet mode": flag(master, TIOCGPKT),
        "exclusive use": flag(slave, TIOCGEXCL),
        "lock": flag(master, TIOCGPTLCK),
    }


def main() -> None:
    special_master, path = new_master()
    special = open_slave(path)
    set_modes(special)
    fcntl.ioctl(special, termios.TIOCSWINSZ, WINDOW.pack(33, 77, 333, 777))
    fcntl.ioctl(special_master, termios.TIOCPKT, struct.pack("i", 1))
    fcntl.ioctl(special, termios.TIOCEXCL)
    fcntl.ioctl(special_master, TIOCSPTLCK, struct.pack("i", 1))
    plain_master, path = new_master()
    plain = open_slave(path)
    before = settings(special_master, special), settings(plain_master, plain)
    ready()
    equal(settings(special_master, special), before[0], "settings of the special terminal")
    equal(settings(plain_master, plain), before[1], "settings of the plain terminal")
    os.write(special, b"ab\n")
    # In packet mode, what is read from the master starts with a byte of news: 0 for data.
    equal(os.read(special_master, 64), b"\0AB\n", "output of the special terminal")


if __name__ == "__main__":
    run(main)
