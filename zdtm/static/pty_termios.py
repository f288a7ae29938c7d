"""Every mode that a pseudo terminal knows, each of them alone in being the other way round; every special character;
speeds; and modes that are locked.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
needs: root
"""

import fcntl
import os
import struct

from zdtm.lib.program import equal, ready, run
from zdtm.lib.terminal import new_master, open_slave

TCGETS2, TCSETS2, TIOCGLCKTRMIOS, TIOCSLCKTRMIOS = 0x802C542A, 0x402C542B, 0x5456, 0x5457
MODES = struct.Struct("4IB19s2I")
LOCKED = struct.Struct("4IB19s")
IN_EACH = 16
"""Bits of a field."""
FIELDS = 4
OTHER_SPEED = 0o10000


def modes_of(fd: int) -> tuple[object, ...]:
    return MODES.unpack(fcntl.ioctl(fd, TCGETS2, bytes(MODES.size)))


def changed(fd: int, field: int, bit: int) -> None:
    """Turn one bit of a field round, and give all characters other values."""
    modes = list(MODES.unpack(fcntl.ioctl(fd, TCGETS2, bytes(MODES.size))))
    modes[field] ^= 1 << bit
    modes[5] = bytes(1 + (bit + 7 * n) % 255 for n in range(19))
    fcntl.ioctl(fd, TCSETS2, MODES.pack(*modes))


def at_speed(fd: int, speed: int) -> None:
    modes = list(MODES.unpack(fcntl.ioctl(fd, TCGETS2, bytes(MODES.size))))
    modes[2] = modes[2] & ~0o2003610017 | OTHER_SPEED
    modes[6] = modes[7] = speed
    fcntl.ioctl(fd, TCSETS2, MODES.pack(*modes))


def locked(fd: int) -> tuple[object, ...]:
    return LOCKED.unpack(fcntl.ioctl(fd, TIOCGLCKTRMIOS, bytes(LOCKED.size)))


def main() -> None:
    slaves = []
    for number in range(FIELDS * IN_EACH + 2):
        _, path = new_master()
        slaves.append(open_slave(path))
        if number < FIELDS * IN_EACH:
            changed(slaves[-1], number // IN_EACH, number % IN_EACH)
    special, fixed = slaves[-2:]
    at_speed(special, 31250)
    fcntl.ioctl(fixed, TIOCSLCKTRMIOS, LOCKED.pack(0o400, 1, 0o60, 0o12, 0, bytes(range(19))))
    before = [modes_of(fd) for fd in slaves]
    before_lock = [locked(fd) for fd in slaves]
    ready()
    equal([modes_of(fd) for fd in slaves], before, "modes")
    equal([locked(fd) for fd in slaves], before_lock, "modes that can't be changed")
    changed(fixed, 3, 3)
    equal(modes_of(fixed)[3], before[-1][3], "local modes after an attempt to change one that is locked")
    equal(os.isatty(special), True, "the slave is a terminal")


if __name__ == "__main__":
    run(main)
