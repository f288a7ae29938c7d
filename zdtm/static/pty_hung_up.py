"""Slaves whose master is closed: reading gives the end, writing and settings an error.

states: tty-and-pty/slave-without-master-hung-up
flavours: h
"""

import os
import select
import termios

from zdtm.lib.program import equal, ready, run
from zdtm.lib.terminal import new_master, open_slave


def hung_up() -> tuple[int, int]:
    """Two descriptions of the slave of a closed master."""
    master, path = new_master()
    slaves = open_slave(path), open_slave(path)
    os.write(master, b"lost\n")
    os.close(master)
    return slaves


def attempt(fd: int) -> list[str]:
    """What the calls that a slave knows say now."""
    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLOUT)
    seen = [f"poll {dict(poller.poll(0)).get(fd, 0):#x}"]
    for call in (lambda: os.read(fd, 64), lambda: os.write(fd, b"x"), lambda: termios.tcgetattr(fd)):
        try:
            seen.append(repr(call()))
        except (OSError, termios.error) as refusal:
            seen.append(f"error {refusal.args[0]}")
    return seen


def main() -> None:
    slaves = hung_up()
    ready()
    for restored, fresh in zip(slaves, hung_up(), strict=True):
        equal(attempt(restored), attempt(fresh), "what a hung up slave says")


if __name__ == "__main__":
    run(main)
