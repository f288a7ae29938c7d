"""Ten slaves whose masters are outside of the tree. One of them controls the session, and /dev/tty is open for it.

states: tty-and-pty/external-ttys
flavours: h
restore-options: --restore-sibling
outside: Masters
"""

import fcntl
import os
import termios
from functools import partial

from zdtm.lib.outside import FIRST, Outside
from zdtm.lib.program import equal, ready, run, wait_until
from zdtm.lib.terminal import WINDOW, new_master, open_slave, session_of, set_raw, unread

COUNT = 10
CONTROLLING = FIRST + 4


class Masters(Outside):
    """What is written to a slave comes out of its master, and the other way round."""

    def supply(self) -> list[int]:
        slaves = []
        for number in range(COUNT):
            master, path = new_master()
            slaves.append(open_slave(path))
            os.write(self.keep(master), b"to %d\n" % number)
        return slaves

    def external(self, fd: int) -> str:
        return self.key(fd)

    def check(self) -> None:
        for number, master in enumerate(self.kept):
            wait_until(partial(self._has_come, master, b"from %d" % number), f"output of terminal {number}")

    @staticmethod
    def _has_come(master: int, end: bytes) -> bool:
        """A worker of the kernel takes what is written from one side to the other."""
        return bool(unread(master)) and os.read(master, unread(master)).endswith(end)


def main() -> None:
    fcntl.ioctl(CONTROLLING, termios.TIOCSCTTY, 0)
    current = os.open("/dev/tty", os.O_RDWR)
    raw = FIRST + COUNT - 1
    set_raw(raw)
    fcntl.ioctl(raw, termios.TIOCSWINSZ, WINDOW.pack(40, 120, 0, 0))
    modes = [termios.tcgetattr(FIRST + number) for number in range(COUNT)]
    ready()
    equal([termios.tcgetattr(FIRST + number) for number in range(COUNT)], modes, "modes of the terminals")
    equal(WINDOW.unpack(fcntl.ioctl(raw, termios.TIOCGWINSZ, bytes(WINDOW.size))), (40, 120, 0, 0), "size of a window")
    equal(session_of(CONTROLLING), os.getsid(0), "session of the terminal")
    equal(os.tcgetpgrp(current), os.getpgrp(), "foreground group")
    for number in range(COUNT):
        fd = current if FIRST + number == CONTROLLING else FIRST + number
        equal(os.read(fd, 64), b"to %d\n" % number, f"input of terminal {number}")
        os.write(FIRST + number, b"from %d" % number)


if __name__ == "__main__":
    run(main)
